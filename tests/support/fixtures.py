"""Fixtures of models and recorded results, made once a session; registered by ``tests/conftest.py``.

torch is imported where a fixture needs it, so that tests without a model start fast.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.goldens import PACKED, unpack

if TYPE_CHECKING:
    from dimoo_core.checkpoint.load import Model


@pytest.fixture(scope="session")
def golden_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded reference results and their checkpoint, restored from the repository."""
    return unpack(PACKED, tmp_path_factory.mktemp("goldens"))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with random weights, in one file. Read only: tests share it."""
    from benchmarks.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> "Model":
    """``tiny_checkpoint``, loaded in float32."""
    return _load_on_one_thread(tiny_checkpoint)


@pytest.fixture(scope="session")
def odd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything unusual at once: grouped queries, a padded embedding, weights in three files."""
    from benchmarks.random_checkpoint import write_random_checkpoint

    return write_random_checkpoint(
        tmp_path_factory.mktemp("odd"),
        seed=1,
        hidden_size=48,
        num_layers=3,
        num_heads=6,
        num_kv_heads=2,
        mlp_size=80,
        num_shards=3,
        padded_rows=37,
    )


@pytest.fixture(scope="session")
def odd_model(odd_checkpoint: Path) -> "Model":
    """``odd_checkpoint``, loaded in float32."""
    return _load_on_one_thread(odd_checkpoint)


def _load_on_one_thread(directory: Path) -> "Model":
    """Load a model; from then on torch uses one thread: with matrices this small, others only wait for each other."""
    import torch

    from dimoo_core.checkpoint.load import load_model

    torch.set_num_threads(1)
    return load_model(directory)
