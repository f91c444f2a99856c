"""What tests of progress share."""

import pytest

from tests.support.progress import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("jobs.progress.state.time.monotonic", clock)
    return clock
