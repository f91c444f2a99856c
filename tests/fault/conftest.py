"""What the fault tests share."""

import pytest

pytest.register_assert_rewrite("tests.support.run_output", "tests.support.in_process", "tests.support.command")
