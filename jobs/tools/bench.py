"""Runs benchmark cases on the product's own engine: the same layout, scheduler, caches and codec as a run."""

import logging
import platform
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.checkpoint.locate import find_checkpoint
from dimoo_core.codec.resize import centered, crop_sizes_for, fit
from dimoo_core.decoding.base import StepTrace
from dimoo_core.engine.engine import Engine
from dimoo_core.presets import PRESETS
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import ImageResult, Request, RequestFailed
from dimoo_core.settings import DtypeName, ImageSettings
from jobs.run.resources import check_run_memory, memory_of_shapes, settings_shape
from jobs.run.workers import Workers
from jobs.spec.resolve import check_model, with_found_adapter, with_generation_defaults
from jobs.spec.spec import JobSpec
from jobs.tools.bench_cases import BenchCase, BenchResult, BenchTask, bench_cases

log = logging.getLogger("dimoo_batch.jobs")

_PROMPT = "a small harbour at dawn, fishing boats beside a stone pier, gulls above the water, soft light, oil painting"
_QUESTION = "Describe the image in detail."
_PHOTO_PX = (1536, 1024)  # before its crop
_WARM_UP_STEPS = 2


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What a person wants measured; empty: everything.

    A case has at most ``max_rows``, else as many as fill a step; it is stopped after ``max_seconds`` and counted by how
    far its rows have come.
    """

    presets: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    tasks: tuple[BenchTask, ...]
    max_rows: int | None
    max_seconds: float


class MachineBench:
    """Measures cases on one loaded model, with the job's engine and crop; see ``BenchOptions`` for their limits."""

    def __init__(self, model: Model, job: JobSpec, options: BenchOptions) -> None:
        self._model = model
        self._job = job
        self._options = options

    def run(self, cases: list[BenchCase]) -> Iterator[BenchResult]:
        """Measure each case, one after the other."""
        for case in cases:
            log.info(f"{case.task} {case.size}, {case.preset}, {case.num_steps} steps")
            self._warm_up(case)
            yield self._measured(case)

    def _warm_up(self, case: BenchCase) -> None:
        """Let kernels be chosen and memory be reserved before the clock runs."""
        engine = Engine(self._model.transformer, self._model.tokens, self._job.engine)
        for request in self._requests(case):
            engine.submit(request)
        for _ in range(_WARM_UP_STEPS):
            engine.step()
        self._synchronize()

    def _measured(self, case: BenchCase) -> BenchResult:
        steps_behind: dict[str, int] = {}  # of the schedule, by row in progress

        def count(request_id: str, trace: StepTrace) -> None:
            steps_behind[request_id] = trace.step + 1

        requests = self._requests(case)
        engine = Engine(self._model.transformer, self._model.tokens, self._job.engine, count)
        self._reset_peak()
        started_s = time.perf_counter()
        for request in requests:
            engine.submit(request)
        done, error = 0, None
        while engine.num_unfinished and (
            not engine.stats.num_steps or time.perf_counter() - started_s < self._options.max_seconds
        ):
            results = engine.step()
            error = next((str(each.error) for each in results if isinstance(each, RequestFailed)), error)
            done += len(results)
            for result in results:
                steps_behind.pop(result.request_id, None)
            if images := [result.vq_codes for result in results if isinstance(result, ImageResult)]:
                self._model.codec.decode(images)
        self._synchronize()
        seconds, stats, is_complete = time.perf_counter() - started_s, engine.stats, not engine.num_unfinished
        rows = done + sum(steps_behind.values()) / case.num_steps
        num_steps = max(1, stats.num_steps)
        return BenchResult(
            task=case.task,
            preset=case.preset,
            size=case.size,
            steps=case.num_steps,
            rows=round(rows, 6),
            is_complete=is_complete,
            seconds=round(seconds, 3),
            rows_per_hour=round(3600 * rows / seconds, 2),
            tokens_per_s=round(stats.num_tokens / seconds, 1),
            engine_busy_ratio=round(min(1.0, stats.busy_s / seconds), 4),
            batch_fill_ratio=round(stats.num_tokens / num_steps / self._job.engine.max_step_tokens, 4),
            peak_memory_bytes=self._peak_bytes(),
            error=error,
        )

    def _requests(self, case: BenchCase) -> list[Request]:
        """As many rows as fill a step, or fewer if so many are asked for; each with a seed and prompt of its own."""
        (first,) = self._made(case, range(1))
        filling = max(1, self._job.engine.max_step_tokens // max(1, first.num_tokens))
        count = filling if self._options.max_rows is None else min(filling, self._options.max_rows)
        return [first, *self._made(case, range(1, count))]

    def _made(self, case: BenchCase, numbers: range) -> list[Request]:
        layout, device = self._model.layout, self._model.device
        if isinstance(case.settings, ImageSettings):
            return [
                layout.text_to_image(str(n), f"{_PROMPT}, number {n}", case.settings, SeededNoise(n, device))
                for n in numbers
            ]
        return [
            layout.understanding(str(n), _QUESTION, [self._photo(n)], case.settings, SeededNoise(n, device))
            for n in numbers
        ]

    def _photo(self, seed: int) -> torch.Tensor:
        """Codes of a picture of smooth colours, cropped as a run crops a photograph."""
        resolution, own = self._job.understanding.resolution, self._job.text_to_image
        corners = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
        size_px = (own.width, own.height) if resolution == "native" else _PHOTO_PX
        image = Image.fromarray(corners).resize(size_px, Image.Resampling.BICUBIC)
        (codes_HW,) = self._model.codec.encode([fit(image, crop_sizes_for(size_px, resolution), centered)])
        return codes_HW

    def _synchronize(self) -> None:
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)

    def _reset_peak(self) -> None:
        if self._model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._model.device)

    def _peak_bytes(self) -> int:
        """On a GPU what torch had reserved at most during the case, else what this process had since its start."""
        if self._model.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._model.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def measure_machine(job: JobSpec, options: BenchOptions) -> tuple[dict[str, Any], list[BenchResult]]:
    """Load the job's model as a worker would and measure the cases; returns the machine, for people, and the results.

    Raises:
        ConfigError, WeightsError: Something asked for is wrong, or does not fit into memory.
    """
    checkpoint = find_checkpoint(job.model)
    job = with_found_adapter(with_generation_defaults(job, checkpoint.directory))
    cases = bench_cases(job.row_defaults(), options.presets or tuple(PRESETS), options.sizes, options.tasks)
    device = job.device if job.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    dtype: DtypeName = "bfloat16" if device.startswith("cuda") else "float32"
    dtype = job.dtype if job.dtype != "auto" else dtype
    found = check_model(checkpoint.directory, job.adapter)
    source_px = resolution**2 if isinstance(resolution := job.understanding.resolution, int) else 0
    shapes = [settings_shape(case.settings, found, source_px) for case in cases]
    need = memory_of_shapes(found, device, dtype, job.engine, shapes, options.max_rows or job.engine.max_step_tokens)
    here = Workers(0, device, 0, 0)
    dtype = check_run_memory(need, here, is_auto=job.dtype == "auto", is_recorded=False).dtype
    adapter = find_checkpoint(job.adapter).directory if job.adapter is not None else None
    loaded = load_model(checkpoint.directory, device=device, dtype=dtype, adapter=adapter)
    results = list(MachineBench(loaded, job, options).run(cases))
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu"
    machine = {
        "model": checkpoint.name,
        "device": device,
        "device_name": f"{name}, {torch.get_num_threads()} threads" if device == "cpu" else name,
        "dtype": dtype,
        "torch": torch.__version__,
        "max_step_tokens": job.engine.max_step_tokens,
    }
    return machine, results
