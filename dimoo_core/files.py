"""The files that a checkpoint or an adapter consists of: whether they are there and can be read; JSON from them.

No tensor and no tokenizer is read here. What is wrong is a ``WeightsError`` that names the file and the fix. Missing
files are listed at once, with where to get them. Directories that are something else are recognized: an adapter, the
output of a training run, the image codec alone, a folder above the checkpoint, an interrupted download.
"""

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dimoo_core.errors import WeightsError

_POINTER = b"version https://git-lfs.github.com/spec/"


def expanded_path(path: str) -> Path:
    """The path with the home folder of ``~`` or ``~user``; as it is, where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path.expanduser raises where there is none


def check_file(path: Path, *, if_missing: str) -> None:
    """Look at a file and its first bytes.

    ``if_missing`` completes the message "is missing: ".

    Raises:
        WeightsError: If it is not there, not a file, empty, a pointer of git-lfs, or may not be read.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise WeightsError(f"{path} is a directory where a file must be: remove it and copy the file there")
        if not stat.S_ISREG(kind):
            raise WeightsError(f"{path} is not a regular file: copy the file there")
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except FileNotFoundError as error:
        if path.is_symlink():
            raise WeightsError(
                f"{path} is a link to {path.readlink()}, which does not exist: download or copy the file again"
            ) from error
        raise WeightsError(f"{path} is missing: {if_missing}") from error
    except OSError as error:
        fix = (
            "give this user the right to read it" if isinstance(error, PermissionError) else "download or copy it again"
        )
        raise WeightsError(f"{path} cannot be read ({error.strerror}): {fix}") from error
    if not start:
        raise WeightsError(f"{path} is empty: download or copy it again")
    if start == _POINTER:
        raise WeightsError(
            f"{path} is a git-lfs pointer, not the file itself: run 'git lfs pull' in the cloned repository, or "
            f"download it with 'hf download'"
        )


def read_json_object(path: Path, *, if_missing: str) -> dict[str, Any]:
    """The object in a JSON file."""
    check_file(path, if_missing=if_missing)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
CODEC_CONFIG, CODEC_WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"  # in vqvae/
TOKENIZER_OPTIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".distcp")
_OPTIONAL = ("generation_config.json", *TOKENIZER_OPTIONS)
_TRAINING = ("optimizer", "additional", "scheduler", "rng_state", "training_args")  # starts of names of other pickles
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_BASE = "Alpha-VLLM/Lumina-DiMOO"


def check_files(directory: Path) -> None:
    """Look for every file of a checkpoint, and at the start of each."""
    names = file_names(directory)
    _check_kind(directory, names)
    wanted = _wanted(directory)
    if lacking := [name for name in wanted if not _is_there(directory / name)]:
        raise WeightsError(_lacking_words(directory, names, lacking))
    for name in (*wanted, *(name for name in _OPTIONAL if name in names)):
        check_file(directory / name, if_missing="it was there a moment ago")


def weight_paths(directory: Path) -> list[Path]:
    """The safetensors files that hold the transformer, all of them there."""
    names = sorted(set(read_weight_map(directory).values())) or [_SINGLE]
    if lacking := [name for name in names if not _is_there(directory / name)]:
        raise WeightsError(_lacking_words(directory, file_names(directory), lacking))
    return [directory / name for name in names]


def read_weight_map(directory: Path) -> dict[str, str]:
    """File name of each tensor by the index, empty if there is none."""
    path = directory / _INDEX
    if not _is_there(path):
        return {}
    weight_map = read_json_object(path, if_missing="it was there a moment ago").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{path} is damaged: no readable weight_map; download or copy it again")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise WeightsError(f"{path}: the file of {tensor} must be a safetensors file, got {name!r}")
        if Path(name).name != name:
            raise WeightsError(f"{path} names a file outside its directory: {name}")
    return weight_map


def weight_pickles(names: Iterable[str]) -> list[str]:
    """Those of the file names that are pickles of weights, by what savers call them."""
    return sorted(name for name in names if name.endswith(_PICKLES) and not name.startswith(_TRAINING))


def file_names(directory: Path) -> set[str]:
    """Names of all that is in a directory."""
    try:
        return {path.name for path in directory.iterdir()}
    except OSError as error:
        fix = "check its path, and that this user may list it"
        raise WeightsError(f"{directory} is not a readable directory ({error.strerror}): {fix}") from error


def _is_there(path: Path) -> bool:
    """Whether there is anything of that name; ``check_file`` diagnoses it."""
    try:
        return path.exists() or path.is_symlink()
    except OSError:  # below a directory that may be listed and not entered
        return True


def _wanted(directory: Path) -> list[str]:
    """Every file that there must be, by its place in the directory."""
    weight_map = read_weight_map(directory)
    weights = [_INDEX, *sorted(set(weight_map.values()))] if weight_map else [_SINGLE]
    return [_CONFIG, _TOKENIZER, *weights, f"vqvae/{CODEC_CONFIG}", f"vqvae/{CODEC_WEIGHTS}"]


def _check_kind(directory: Path, names: set[str]) -> None:
    """Refuse a directory that is a whole of another kind."""
    has_weights = not names.isdisjoint({_SINGLE, _INDEX})
    if ADAPTER_CONFIG in names and not has_weights:
        raise WeightsError(
            f"{directory} is a LoRA adapter, not a checkpoint: set adapter to it, and model to the checkpoint that it "
            f"was trained on"
        )
    if {CODEC_CONFIG, CODEC_WEIGHTS} <= names and not has_weights:
        above = directory.absolute().parent
        raise WeightsError(f"{directory} is the image codec of a checkpoint: give the directory above it, {above}")
    if _CONFIG not in names and not has_weights and (inner := sorted(map(str, _checkpoints_in(directory)))):
        raise WeightsError(f"{directory} is no checkpoint, but there is one in it: give {' or '.join(inner[:3])}")


def _checkpoints_in(directory: Path) -> Iterator[Path]:
    """Checkpoints that are where savers and the hub's cache put them."""
    for pattern in ("*", "snapshots/*"):
        for folder in directory.glob(pattern):
            if (folder / _CONFIG).is_file() and any((folder / name).is_file() for name in (_SINGLE, _INDEX)):
                yield folder


def _lacking_words(directory: Path, names: set[str], lacking: list[str]) -> str:
    """What is missing, why that may be, and where to get it."""
    words = f"{directory} lacks {', '.join(lacking)}"
    if (cache := directory.parent.parent.name).startswith("models--") and directory.parent.name == "snapshots":
        repo = cache.removeprefix("models--").replace("--", "/", 1)
        return f"{words}: its download is incomplete, run 'hf download {repo}' with a connection and start again"
    weights = [name for name in lacking if "/" not in name and name.endswith((_SINGLE, ".safetensors"))]
    advice = [_about_weights(names, weights)] if weights else []
    codec = [name for name in lacking if "/" in name]
    if codec:
        advice.append(_about_codec(directory / "vqvae"))
    if _TOKENIZER in lacking and names & {"tokenizer.model", "vocab.json"}:
        advice.append("only fast tokenizers are supported, convert it with AutoTokenizer and save_pretrained")
    copied = [_CONFIG] if _CONFIG in lacking else []
    copied += ["the tokenizer's files (tokenizer.json, tokenizer_config.json, …)"] if _TOKENIZER in lacking else []
    copied += ["vqvae/"] if codec else []
    if copied and not weights:
        why = "training code saves weights and config alone, " if _TOKENIZER in lacking and codec else ""
        advice.append(f"{why}copy {' and '.join(copied)} from the base checkpoint, such as {_BASE}")
    if _CONFIG in lacking and weights:
        advice.append("not a Lumina-DiMOO checkpoint, which is laid out as the published repository")
    return f"{words}: {'; '.join(filter(None, advice))}"


def _about_weights(names: set[str], lacking: list[str]) -> str:
    """What there is in place of the transformer's weights."""
    if lacking != [_SINGLE]:
        return f"{_INDEX} lists them, copy or download them again"
    if sharded := sorted(name for name in names if name.endswith(".distcp") or name.startswith("pytorch_model_fsdp")):
        return f"{sharded[0]} is sharded state of a training, gather it with 'accelerate merge-weights'"
    if pickles := weight_pickles(names):
        return (
            f"{', '.join(pickles[:3])} is a pickle, only safetensors are read: load it with "
            f"torch.load(weights_only=True) and save it with safetensors.torch.save_file"
        )
    if others := sorted(name for name in names if name.endswith(".safetensors")):
        numbered = _SHARD.fullmatch(others[0]) is not None
        fix = f"copy its {_INDEX} too" if numbered else f"rename it to {_SINGLE} if it holds the transformer"
        return f"it holds {', '.join(others[:3])}, {fix}"
    return "it holds no weights"


def _about_codec(directory: Path) -> str:
    """What there is in place of the codec's weights, if anything."""
    held = sorted(file_names(directory)) if directory.is_dir() else []
    if CODEC_WEIGHTS in held:
        return ""
    if pickles := weight_pickles(held):
        return f"vqvae/{pickles[0]} is a pickle, only safetensors are read"
    others = [name for name in held if name.endswith(".safetensors")]
    return f"vqvae/{others[0]} is not looked at, only {CODEC_WEIGHTS}" if others else ""
