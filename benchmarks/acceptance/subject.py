"""The checkpoint that is accepted: a directory, a repository of the hub, or random weights written for the run."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.random_checkpoint import write_random_checkpoint
from dimoo_core.checkpoint.locate import BUILTIN, CHECKPOINT_FILES, downloaded_files, find_checkpoint
from dimoo_core.errors import ConfigError, WeightsError
from dimoo_core.model_config import DIMOO_8B

RANDOM_SHAPES: dict[str, dict[str, Any]] = {
    "random-8b": {
        "hidden_size": 4096,
        "num_layers": 32,
        "num_heads": 32,
        "num_kv_heads": 32,
        "mlp_size": 12_288,
        "num_shards": 8,
        "vocabulary": "published-listed",
    },
    "random-small": {"vocabulary": "published-listed"},
}
"""Shapes of random checkpoints by the name that stands for them; both implementations read the same files.

Both have the published vocabulary: the reference's constants are its ids.
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint on local disk. ``is_random``: its images and answers mean nothing."""

    name: str
    directory: Path
    is_random: bool


def download_bytes(model: str) -> int:
    """What is missing of a repository of the hub on this machine; 0 for everything else.

    Raises:
        WeightsError: If the hub cannot be asked.
    """
    if model in RANDOM_SHAPES or model == BUILTIN or Path(model).expanduser().is_dir():
        return 0
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = model.partition("@")
    try:
        files = snapshot_download(repo, revision=revision or None, dry_run=True, **downloaded_files())
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise WeightsError(
            f"--model {model}: no directory of that name, and the hub cannot be asked for it ({type(error).__name__}): "
            f"give a directory, OWNER/NAME, or one of {', '.join(RANDOM_SHAPES)}"
        ) from error
    return sum(file.file_size for file in files if file.will_download)


def random_bytes(model: str) -> int:
    """About what a random checkpoint takes on disk, in bfloat16."""
    shape = {**(write_random_checkpoint.__kwdefaults__ or {}), **RANDOM_SHAPES[model]}
    size, rows = shape["hidden_size"], DIMOO_8B.num_embeddings
    keys_and_values = 2 * size * size * shape["num_kv_heads"] // shape["num_heads"]
    per_layer = 2 * size * size + keys_and_values + 3 * size * shape["mlp_size"]
    return int(2 * (2 * rows * size + shape["num_layers"] * per_layer))


def find_subject(model: str, scratch: Path) -> Subject:
    """The checkpoint of that name, downloaded or written if need be.

    Raises:
        ConfigError: If a random one does not fit on the disk.
        WeightsError: If there is no such checkpoint.
    """
    if model not in RANDOM_SHAPES:
        found = find_checkpoint(model)
        return Subject(found.name, found.directory, is_random=False)
    needed, free = random_bytes(model), shutil.disk_usage(scratch).free
    if needed > free:
        raise ConfigError(
            f"{model} takes {needed / 1e9:.1f} GB on disk, {scratch} has {free / 1e9:.1f} GB free: "
            "give a larger place with --scratch"
        )
    return Subject(model, write_random_checkpoint(scratch / model, seed=1, **RANDOM_SHAPES[model]), is_random=True)


def read_bytes(directory: Path) -> int:
    """Bytes of the files that a load reads."""
    return sum(path.stat().st_size for pattern in CHECKPOINT_FILES for path in directory.glob(pattern))
