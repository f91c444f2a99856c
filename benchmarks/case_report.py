"""From the runs of a case to what people ask for: seconds an image, tokens a second, use of the device."""

from collections.abc import Sequence
from statistics import median

import torch

from benchmarks.case import Case
from benchmarks.flop_comparison import Counting
from benchmarks.shape import Shape
from benchmarks.timing import CaseTiming, Run
from benchmarks.workload import stream_lengths

_CPU = torch.device("cpu")


class CaseReporter:
    """Makes a case's part of the result file; ``peak`` is the device's FLOP/s, if known."""

    def __init__(self, shape: Shape, peak: float | None) -> None:
        self._counting = Counting(shape)
        self._peak = peak

    def report(self, case: Case, timing: CaseTiming) -> dict[str, object]:
        """Seconds a unit are those of a whole generation: shortened runs are scaled by exact operation counts."""
        steps = timing.steps_measured
        engine_flops = self._counting.engine(case.build(steps, _CPU)).total
        engine_scale = 1.0
        if steps < case.num_steps:
            engine_scale = self._counting.engine(case.build(case.num_steps, _CPU)).total / engine_flops
        lengths = stream_lengths(case.build_plain(case.num_steps, _CPU))
        plain_flops = self._counting.reference(lengths).total * timing.plain_runs[0].num_steps

        plain_s = [run.seconds * case.num_steps / steps for run in timing.plain_runs]
        engine_s = [run.seconds * engine_scale / case.batch for run in timing.engine_runs]
        speedups = [plain / engine for plain, engine in zip(plain_s, engine_s, strict=True)]
        return {
            "name": case.name,
            "unit": case.unit,
            "batch": case.batch,
            "preset": case.preset,
            "settings": case.settings,
            "stream_lengths": lengths,
            "steps": case.num_steps,
            "steps_measured": steps,
            "is_extrapolated": steps < case.num_steps,
            "seconds_per_unit": median(engine_s),
            "plain_seconds_per_unit": median(plain_s),
            "speedup": median(speedups),
            "speedups": speedups,
            "engine": self._of_runs(timing.engine_runs, engine_flops),
            "plain": self._of_runs(timing.plain_runs, plain_flops),
        }

    def _of_runs(self, runs: Sequence[Run], flops: int) -> dict[str, object]:
        seconds = median(run.seconds for run in runs)
        return {
            "runs_s": [run.seconds for run in runs],
            "flops_per_run": flops,
            "tokens_per_s": runs[0].num_tokens / seconds,
            "flops_per_s": flops / seconds,
            "mfu": None if self._peak is None else flops / seconds / self._peak,
            "peak_memory_bytes": max(run.peak_memory_bytes or 0 for run in runs) or None,
        }
