"""From the runs of a case to what people ask for: seconds an image, tokens a second, use of the device."""

from collections.abc import Sequence
from statistics import median

import torch

from benchmarks.case import Case
from benchmarks.flop_comparison import flops_by_hand
from benchmarks.shape import Shape
from benchmarks.timing import CaseTiming, Run
from benchmarks.workload import sequence_lengths
from dimoo_core.engine.flops import Cost, Generation, image_cost, text_cost
from dimoo_core.request.request import Request
from dimoo_core.settings import ImageSettings, TextSettings

_CPU = torch.device("cpu")


class CaseReporter:
    """Makes a case's part of the result file; ``peak`` is the device's FLOP/s, if known.

    Operations are those of closed forms: counting them one by one takes a CPU minutes a case, while the GPU waits.
    """

    def __init__(self, shape: Shape, peak: float | None) -> None:
        self._shape = shape
        self._peak = peak

    def report(self, case: Case, timing: CaseTiming) -> dict[str, object]:
        """Seconds a unit are those of a whole generation: shortened runs are scaled by operations."""
        steps = timing.steps_measured
        alone = self._cost(case, steps)
        # What requests of a batch share is computed once: in the first step, so that it does not grow with the steps.
        engine_flops = round(alone.flops * timing.engine_runs[0].num_tokens / alone.num_tokens)
        more_flops = self._cost(case, case.num_steps).flops - alone.flops if steps < case.num_steps else 0
        engine_scale = 1 + case.batch * more_flops / engine_flops
        lengths = sequence_lengths(case.build_plain(case.num_steps, _CPU))
        of_a_step = sum(flops_by_hand(self._shape.config, length).total for length in lengths)
        plain_flops = of_a_step * timing.plain_runs[0].num_steps

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

    def _cost(self, case: Case, num_steps: int) -> Cost:
        """Of one request alone that takes so many steps, and decides no more in each than its share."""
        request = case.build(num_steps, _CPU)[0]
        generation = generation_of(self._shape, request)
        if isinstance(request.settings, ImageSettings):
            return image_cost(self._shape.config, generation, request.settings)
        assert isinstance(request.settings, TextSettings)
        return text_cost(self._shape.config, generation, request.settings)

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


def generation_of(shape: Shape, request: Request) -> Generation:
    """What the closed forms of ``flop_count`` need to know of a request."""
    is_image = isinstance(request.settings, ImageSettings)
    columns = shape.tokens.image_columns if is_image else shape.tokens.vocabulary_columns
    return Generation(
        sequence_lengths=tuple(sequence_lengths(request)),
        num_target=len(request.target),
        num_masked=int((request.target == shape.tokens.mask).sum()),
        num_suffix=len(request.sequences[0].suffix),
        num_distinct=len(torch.cat([sequence.around(request.target) for sequence in request.sequences]).unique()),
        num_columns=columns.stop - columns.start,
    )
