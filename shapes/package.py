"""Put a trained checkpoint into the package: ``python -m shapes.package DIR [--scores FILE]``.

DIR is what ``python -m shapes.train`` wrote, FILE what ``python -m shapes.evaluate --json FILE`` wrote for it.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.presets import DEFAULT_PRESET
from shapes.course_mean import mean_of
from shapes.curriculum import COURSES
from shapes.generation_defaults import GENERATION
from shapes.model_card import Provenance, model_card
from shapes.training_log import TrainingLog

MAX_BYTES = 12_000_000
"""What the embedded model may add to the package."""

SUMS = "SHA256SUMS"
WEIGHTS = "model.safetensors"
_COPIED = (
    "config.json",
    WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vqvae/config.json",
    "vqvae/diffusion_pytorch_model.safetensors",
)


def package(source: Path, target: Path, scores: Path | None, *, device: str = "two CPU cores") -> None:
    """Replace the checkpoint at ``target`` by the one at ``source``.

    Raises:
        ValueError: If the scores are those of other weights or settings, the weights none that the courses led to, or
            the files too large together.
        WeightsError: If the checkpoint does not load.
    """
    if scores is not None:
        _check_scores(json.loads(scores.read_text(encoding="utf-8")), source)
    provenance = _provenance(source, device)
    shutil.rmtree(target, ignore_errors=True)
    for name in _COPIED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    (target / "generation_config.json").write_text(json.dumps(GENERATION, indent=2) + "\n", encoding="utf-8")
    (target / "README.md").write_text(model_card(provenance, scores), encoding="utf-8")
    (target / SUMS).write_text(_sums(target), encoding="utf-8")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if size > MAX_BYTES:
        raise ValueError(f"{target} has {size:,} bytes, at most {MAX_BYTES:,} are allowed")
    _check_loads(target)
    print(f"{target}: {size:,} bytes")


def sha256(path: Path) -> str:
    """The file's digest in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sums(directory: Path) -> str:
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return "".join(f"{sha256(directory / name)}  {name}\n" for name in names)


def _check_scores(report: dict[str, Any], source: Path) -> None:
    if report["weights_sha256"] != sha256(source / WEIGHTS):
        raise ValueError(f"the scores are those of {report['model']}, whose weights are not those of {source}")
    if report["preset"] != DEFAULT_PRESET:
        raise ValueError(f"the scores are those of preset {report['preset']}, the card is about {DEFAULT_PRESET}")
    ours, theirs = GENERATION["text_to_image"], report["image"]
    settings = {"num_steps": ours["steps"], "cfg_scale": ours["cfg_scale"], "temperature": ours["temperature"]}
    if changed := {name: theirs[name] for name in settings if theirs[name] != settings[name]}:
        raise ValueError(f"the scores were taken with {changed}, the package generates with {settings}")


def _check_loads(target: Path) -> None:
    from dimoo_core.checkpoint.load import load_model

    load_model(target)


def _provenance(source: Path, device: str) -> Provenance:
    import torch

    training = source / "training"
    courses = [course for course in COURSES if (training / f"{course}.jsonl").exists()]
    state = torch.load(training / f"{courses[-1]}.pt", map_location="cpu", weights_only=True)
    config, weights = json.loads(state["config"]), load_file(source / WEIGHTS)
    is_mean = not _are_equal(weights, state["leaves"])
    if is_mean and (len(courses) < 2 or not _are_equal(weights, mean_of(training, *courses[-2:]))):
        raise ValueError(
            f"{source / WEIGHTS} is neither what the course {courses[-1]} ended with nor a mean of courses"
        )
    num_parameters = sum(leaf.numel() for leaf in state["leaves"].values())
    last_reports = {course: TrainingLog(training, course).reports()[-1] for course in courses}
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    return Provenance(
        sizes=(
            f"{config['num_layers']} layers, hidden size {config['hidden_size']}, {config['num_heads']} heads, "
            f"{num_parameters / 1e6:.1f}M parameters"
        ),
        courses=tuple((name, int(last["step"]), last["minutes"]) for name, last in last_reports.items()),
        is_mean=is_mean,
        seed=config["seed"],
        commit=commit.stdout.strip(),
        device=device,
    )


def _are_equal(weights: dict[str, Tensor], leaves: dict[str, Tensor]) -> bool:
    """Whether a checkpoint has these leaves, in its own dtype."""
    return all(weight.equal(leaves[name].to(weight.dtype)) for name, weight in weights.items())


def main() -> None:
    """Parse the command line and package."""
    parser = argparse.ArgumentParser(prog="python -m shapes.package", description=__doc__)
    parser.add_argument("source", type=Path, metavar="DIR", help="trained checkpoint")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="its scores; without, the card says there are none")
    parser.add_argument("--device", default="two CPU cores", help="what it was trained on, for the card")
    arguments = parser.parse_args()
    package(
        arguments.source,
        find_checkpoint(BUILTIN).directory,
        arguments.scores,
        device=arguments.device,
    )


if __name__ == "__main__":
    main()
