"""Acceptance of a checkpoint on a machine: the official implementation and this engine, row by row, with equal noise.

``python -m benchmarks.acceptance --model ID_OR_DIR --reference CLONE [--device cuda] [--rows 24] [--minutes 30]
[--dtypes bfloat16,float32] [--presets NAME,...] [--sizes 512x512,...] [--input 512x512] [--steps 32] [--answer 64]
[--scratch DIR] [--threads N] [--out DIR]``

Needs torch, transformers, safetensors, numpy, Pillow, diffusers and torchmetrics; no ray, boto3 or pyarrow. Exit status
1 if something differs that must not, 2 if it cannot be run; docs/acceptance.md.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.acceptance.budget import TimeBudget
from benchmarks.acceptance.forecast import forecast
from benchmarks.acceptance.inputs import Inputs
from benchmarks.acceptance.likeness import require_metrics
from benchmarks.acceptance.page import page
from benchmarks.acceptance.result import failures, outcomes_as_json, sequences_as_json
from benchmarks.acceptance.row import Workload
from benchmarks.acceptance.run import AcceptanceRun, Outcomes, Plan
from benchmarks.acceptance.subject import RANDOM_SHAPES, Subject, download_bytes, find_subject, random_bytes, read_bytes
from benchmarks.reference_clone import clone_module, clone_state
from benchmarks.reference_inputs import ReferenceInputs
from benchmarks.result_file import environment, write_result
from benchmarks.workload import parse_size
from dimoo_core.errors import ConfigError, DimooError
from dimoo_core.presets import PRESETS, find_preset
from dimoo_core.settings import DtypeName

_DTYPES: dict[str, DtypeName] = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    random = ", ".join(RANDOM_SHAPES)
    add("--model", required=True, help=f"a directory, OWNER/NAME of the hub, or random weights: {random}")
    add("--reference", type=Path, required=True, help="a clone of the official repository")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="as torch names it")
    add("--rows", type=int, default=24, help="of all tasks in turn")
    add("--minutes", type=float, default=30, help="for everything but downloads; what does not fit is named")
    add("--dtypes", help="the first has presets, too; default: bfloat16,float32 on CUDA, float32 on a CPU")
    add("--presets", default=",".join(PRESETS), help="by name")
    add("--sizes", default="512x512,768x512,1024x1024", help="of images from text")
    add("--input", default="512x512", help="size of input images, and of images made from them")
    add("--steps", type=int, default=32, help="of an image")
    add("--answer", type=int, default=64, help="tokens of an answer, four to a step")
    add("--scratch", type=Path, help="where random weights are written, 16 GB for the 8B shape")
    add("--threads", type=int, default=1, help="of torch on a CPU")
    add("--out", type=Path, default=Path("acceptance"), help="directory of the page, its pictures and the result file")
    return parser


def _workload(options: argparse.Namespace) -> Workload:
    try:
        sizes = tuple(parse_size(size) for size in options.sizes.split(","))
        input_size = parse_size(options.input)
    except ValueError as error:
        raise ConfigError(
            f"sizes are such as 512x512,768x512, got --sizes {options.sizes} --input {options.input}"
        ) from error
    return Workload(sizes=sizes, input_size=input_size, num_steps=options.steps, answer_tokens=options.answer)


def _dtypes(options: argparse.Namespace) -> list[DtypeName]:
    default = "float32" if torch.device(options.device).type == "cpu" else "bfloat16,float32"
    names = list(dict.fromkeys((options.dtypes or default).split(",")))
    if unknown := [name for name in names if name not in _DTYPES]:
        raise ConfigError(f"--dtypes must be of {', '.join(_DTYPES)}, got {unknown[0]!r}")
    return [_DTYPES[name] for name in names]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device must be such as cuda, cuda:1 or cpu, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: torch {torch.__version__} sees no CUDA device")
    return device


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Acceptance:
    """One call of the program, its arguments checked before anything is read."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._started_s = time.monotonic()
        self._options = options
        self._device = _device(options.device)
        self._dtypes = _dtypes(options)
        self._presets = [find_preset(name).name for name in options.presets.split(",")]
        self._workload = _workload(options)
        self._rows = self._workload.rows(options.rows)
        if not options.minutes > 0:
            raise ConfigError(f"--minutes must be above 0, got {options.minutes:g}")
        require_metrics()
        clone_module(options.reference, "config")
        self._result: dict[str, Any] = {}

    def run(self, scratch: Path) -> int:
        """Everything; the exit status."""
        options = self._options
        subject = self._subject(scratch)
        inputs = Inputs(subject.directory, self._device, self._workload.input_size)
        reference = ReferenceInputs(options.reference, subject.directory, self._device)
        expected = forecast(inputs, self._rows, self._dtypes, self._presets, read_bytes(subject.directory))
        for line in expected.lines(options.minutes):
            _say(line)
        self._result = self._about(subject, inputs, reference) | {
            "expected": {**asdict(expected), "total_s": expected.total_s}
        }
        plan = Plan(
            clone=options.reference,
            checkpoint=subject.directory,
            device=self._device,
            dtypes=self._dtypes,
            refused=expected.refused,
            rows=self._rows,
            presets=self._presets,
            directory=options.out,
        )
        left_s = self._started_s + 60 * options.minutes - time.monotonic()
        budget = TimeBudget(left_s, expected.seconds)
        AcceptanceRun(plan, inputs, reference, budget, _say, self._save).run()
        return self._conclude()

    def _about(self, subject: Subject, inputs: Inputs, reference: ReferenceInputs) -> dict[str, Any]:
        """What is known before anything is generated: sequences are compared here."""
        options = self._options
        checks = None
        if reference.knows(inputs.tokens):
            checks = sequences_as_json(self._rows, [inputs.check(row, reference) for row in self._rows])
        return {
            "benchmark": "acceptance",
            **environment(self._device),
            "model": subject.name,
            "is_random": subject.is_random,
            "reference": str(clone_state(options.reference)),
            "settings": {
                **{name: getattr(options, name) for name in ("rows", "minutes", "sizes", "input", "steps", "answer")},
                "dtypes": self._dtypes,
                "presets": self._presets,
            },
            "ids": inputs.ids(),
            "reference_ids": reference.ids(),
            "sequences": checks,
        }

    def _subject(self, scratch: Path) -> Subject:
        """Say what is downloaded or written, and do it; downloads do not count as time."""
        model = self._options.model
        if model in RANDOM_SHAPES:
            _say(f"{model}: {random_bytes(model) / 1e9:.2f} GB of random weights are written to {scratch}")
            return find_subject(model, scratch)
        _say(f"{model}: {download_bytes(model) / 1e9:.2f} GB to download")
        began_s = time.monotonic()
        subject = find_subject(model, scratch)
        self._started_s += time.monotonic() - began_s
        return subject

    def _save(self, outcomes: Outcomes) -> None:
        """Write page and result as far as they are."""
        self._result |= outcomes_as_json(outcomes)
        self._result |= {"failures": failures(self._result), "took_s": time.monotonic() - self._started_s}
        out = self._options.out
        write_result(out / "acceptance.json", self._result)
        (out / "acceptance.md").write_text(page(self._result), encoding="utf-8")

    def _conclude(self) -> int:
        out, comparisons = self._options.out, self._result["comparisons"]
        _say(f"{len(comparisons)} rows compared, {len(self._result['left_out'])} left out: {out / 'acceptance.md'}")
        for line in self._result["failures"]:
            _say(line)
        if self._result["failures"]:
            return 1
        if not comparisons:
            raise ConfigError("no row was compared: give more --minutes, fewer --steps or smaller --sizes")
        return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write and say how it went."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        acceptance = _Acceptance(options)
        options.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            return acceptance.run(Path(scratch))
    except DimooError as error:
        _say(f"error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
