"""Speed of the engine on one device, at the published shape with random weights, against a plain eager loop.

``python -m benchmarks.gpu [--device cuda|cpu] [--shape 8b|tiny] [--sizes 1024x1024,512x512,1536x768] [--steps 64]
[--batch 1,4] [--captions | --no-captions] [--caption-batch 1,16] [--presets exact,reference-cache,balanced,fast]
[--dtype bfloat16|float8|float32] [--compile] [--repeats 3] [--max-seconds 540] [--threads 1] [--out FILE]``

Needs torch, numpy and ``dimoo_core`` alone. The result file is written anew after each case.
"""

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention_timing import time_attention
from benchmarks.case import Case, cases_in_order, image_case
from benchmarks.case_report import CaseReporter
from benchmarks.peak import peak_flops
from benchmarks.random_weights import in_float8, random_transformer
from benchmarks.result_file import device_name, environment, write_result
from benchmarks.shape import SHAPES, Shape
from benchmarks.timing import Subject
from benchmarks.workload import parse_size, sequence_lengths
from dimoo_core.model.float8 import FLOAT8
from dimoo_core.presets import PRESETS, find_preset

_RESULTS = Path(__file__).parent / "results"
_USABLE_RATIO = 0.94  # of the time limit; the rest is for counting, writing, and later steps that take longer
_DTYPES = {"bfloat16": torch.bfloat16, "float8": FLOAT8, "float32": torch.float32}
_COLUMNS = ("case", "s each", "plain s", "speedup", "tokens/s", "TFLOP/s", "MFU", "GiB", "steps")
_ROW = "{:<55}{:>9}{:>9}{:>9}{:>11}{:>9}{:>8}{:>7}{:>8}"


class GpuBenchmark:
    """One run: its cases, its time limit and its result file."""

    def __init__(self, subject: Subject, settings: dict[str, Any], *, end_s: float, out: Path) -> None:
        name = device_name(subject.device)
        peak = peak_flops(name)
        self._subject = subject
        self._reporter = CaseReporter(subject.shape, peak)
        self._num_repeats: int = settings["repeats"]
        self._end_s = end_s
        self._out = out
        self._seconds_per_token = 0.0  # of the slowest case so far
        self._result: dict[str, Any] = {
            "benchmark": "gpu",
            **environment(subject.device),
            "peak_bf16_flops_per_s": peak,
            "dtype": str(subject.transformer.weight_dtype).removeprefix("torch."),
            "settings": settings,
            "attention": None,
            "cases": [],
            "not_measured": [],
        }

    def run(self, cases: Sequence[Case]) -> None:
        """Measure the cases in order; what does not fit the time or the memory is noted and left out."""
        print(f"{self._result['device']}, torch {self._result['torch']}, {self._result['dtype']}")
        self._warm_up()
        self._measure_attention(cases[0])
        print(_ROW.format(*_COLUMNS))
        weights = [case.num_tokens() * (1 + 1 / case.batch) for case in cases]  # the plain run is one request
        for index, case in enumerate(cases):
            self._measure(case, weights[index] / sum(weights[index:]))
            write_result(self._out, self._result)

    def _measure(self, case: Case, share: float) -> None:
        left_s = self._end_s - time.perf_counter()
        least_s = 2 * self._seconds_per_token * case.num_tokens() * case.min_steps() / case.num_steps
        if left_s <= least_s:
            self._leave_out(case, f"{max(0, left_s):.0f} s were left of the time limit")
            return
        timing, reason = None, ""
        try:
            timing = self._subject.time_case(case, budget_s=left_s * share, num_repeats=self._num_repeats)
        except torch.OutOfMemoryError as error:
            reason = str(error).partition("\n")[0]
        if timing is None:
            torch.cuda.empty_cache()  # not earlier: the exception keeps the tensors of the failed pass
            self._leave_out(case, reason)
            return
        report = self._reporter.report(case, timing)
        self._result["cases"].append(report)
        rates = [run.seconds / run.num_tokens for run in (*timing.engine_runs, *timing.plain_runs)]
        self._seconds_per_token = max(self._seconds_per_token, *rates)
        print(_row(report), flush=True)

    def _leave_out(self, case: Case, reason: str) -> None:
        self._result["not_measured"].append({"name": case.name, "reason": reason})
        print(f"{case.name}: not measured, {reason}", flush=True)

    def _warm_up(self) -> None:
        """Load kernels and libraries outside the first case."""
        requests = image_case(self._subject.shape, (64, 64), 2, 1).build(2, self._subject.device)
        self._subject.run_engine(requests)
        self._subject.run_plain(requests[0])

    def _measure_attention(self, case: Case) -> None:
        requests = case.build(case.num_steps, torch.device("cpu"))
        lengths = sequence_lengths(requests[0]) * 4
        timing = time_attention(self._subject.shape.config, lengths, self._subject.device, 7)
        self._result["attention"] = timing
        if timing is not None:
            print(f"varlen_attn over {len(lengths)} streams: {timing['speedup']:.2f} times as fast as SDPA by stream")


def _row(report: dict[str, Any]) -> str:
    engine = report["engine"]
    mfu, memory = engine["mfu"], engine["peak_memory_bytes"]
    return _ROW.format(
        report["name"],
        f"{report['seconds_per_unit']:.3f}",
        f"{report['plain_seconds_per_unit']:.3f}",
        f"{report['speedup']:.3f}",
        f"{engine['tokens_per_s']:,.0f}",
        f"{engine['flops_per_s'] / 1e12:.1f}",
        "-" if mfu is None else f"{mfu:.1%}",
        "-" if memory is None else f"{memory / 2**30:.1f}",
        f"{report['steps_measured']}/{report['steps']}",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="as torch names it")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="8b", help="the published model or a tiny one")
    parser.add_argument("--sizes", default="1024x1024,512x512,1536x768", help="of the images, the most important first")
    parser.add_argument("--steps", type=int, default=64, help="denoising steps of an image")
    parser.add_argument("--batch", default="1,4", help="images that run together")
    parser.add_argument("--captions", action=argparse.BooleanOptionalAction, default=True, help="measure captions too")
    parser.add_argument("--caption-batch", default="1,16", help="captions that run together")
    parser.add_argument("--caption-image", type=int, default=1024, help="side of a captioned image in pixels")
    parser.add_argument("--presets", default=",".join(PRESETS), help="in the order of their importance")
    parser.add_argument("--dtype", choices=sorted(_DTYPES), help="default: bfloat16 on CUDA, else float32")
    parser.add_argument("--compile", action="store_true", help="the engine's norms, rotations and gates")
    parser.add_argument("--repeats", type=int, default=3, help="alternated runs of a case")
    parser.add_argument("--max-seconds", type=float, default=540, help="time limit of everything")
    parser.add_argument("--threads", type=int, default=1, help="of torch on a CPU; idle ones slow a tiny model down")
    parser.add_argument("--out", type=Path, help="result file; default: benchmarks/results/gpu-DEVICE-SHAPE.json")
    return parser


def _cases(shape: Shape, options: argparse.Namespace) -> list[Case]:
    return cases_in_order(
        shape,
        sizes=[parse_size(size) for size in options.sizes.split(",")],
        num_steps=options.steps,
        image_batches=[int(batch) for batch in options.batch.split(",")],
        caption_batches=[int(batch) for batch in options.caption_batch.split(",")] if options.captions else [],
        caption_image_px=options.caption_image,
        presets=[find_preset(name) for name in options.presets.split(",")],
    )


def _subject(shape: Shape, device: torch.device, dtype: torch.dtype, *, compile: bool) -> Subject:
    """The plain loop has weights that are not rounded to 8 bits."""
    if dtype != FLOAT8:
        return Subject(random_transformer(shape, device=device, dtype=dtype), shape, compile=compile)
    plain = random_transformer(shape, device=device, dtype=torch.bfloat16)
    return Subject(in_float8(plain), shape, plain, compile=compile)


def _default_out(device: torch.device, shape: Shape, dtype_name: str, *, compile: bool) -> Path:
    slug = re.sub(r"\W+", "-", device_name(device)).strip("-").lower()
    how = ("-float8" if dtype_name == "float8" else "") + ("-compiled" if compile else "")
    return _RESULTS / f"gpu-{slug}-{shape.name}{how}.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the weights, measure every case that fits, print and write the numbers."""
    started_s = time.perf_counter()
    options = _parser().parse_args(arguments)
    shape, device = SHAPES[options.shape], torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(options.threads)
    dtype_name = options.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    out = options.out or _default_out(device, shape, dtype_name, compile=options.compile)
    settings = {name: value for name, value in vars(options).items() if name not in ("device", "dtype", "out")}
    subject = _subject(shape, device, _DTYPES[dtype_name], compile=options.compile)
    end_s = started_s + options.max_seconds * _USABLE_RATIO
    GpuBenchmark(subject, settings, end_s=end_s, out=out).run(_cases(shape, options))


if __name__ == "__main__":
    main()
