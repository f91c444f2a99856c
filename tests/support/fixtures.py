"""Fixtures of models and recorded results, made once a session; registered by ``tests/conftest.py``."""

from pathlib import Path

import pytest

from tests.support.goldens import PACKED, unpack


@pytest.fixture(scope="session")
def golden_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded reference results and their checkpoint, restored from the repository."""
    return unpack(PACKED, tmp_path_factory.mktemp("goldens"))
