"""The reference and this engine on the same work, by turns in one process: times, and whether tokens agree."""

import gc
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from benchmarks.reference_clone import ReferenceClone
from benchmarks.reference_noise import GeneratorNoise
from benchmarks.workload import without_parallel_commits
from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.presets import Preset
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import ImageResult, Request, TextResult
from dimoo_core.settings import ImageSettings, StepCacheConfig, TextSettings

PLAIN = "reference"
CACHED = "reference with its cache"

_PROMPT = "a small boat on the lake, an old house under green trees, and a red bicycle near the window"
_QUESTION = "Describe the image in one sentence. What is in the picture, and how many cats are there?"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Generation:
    """What one contender made of one request, and the CPU seconds of the process that it took."""

    ids: Tensor
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One kind of request. ``image_px`` is the input image's side for answers."""

    name: str
    settings: ImageSettings | TextSettings
    image_px: int = 0

    def request(self, model: Model, repeat: int, settings: ImageSettings | TextSettings | None = None) -> Request:
        """The request of one repeat; images draw their noise from a generator as the reference does."""
        settings = settings or self.settings
        name = f"{self.name} {repeat}"
        if isinstance(settings, ImageSettings):
            noise = GeneratorNoise(torch.Generator().manual_seed(repeat))
            return model.layout.text_to_image(name, f"{_PROMPT} {repeat}", settings, noise)
        side = self.image_px // model.codec.pixels_per_code
        codes_HW = torch.randint(model.tokens.num_codes, (side, side), generator=torch.Generator().manual_seed(repeat))
        return model.layout.understanding(name, _QUESTION, [codes_HW], settings, SeededNoise(repeat, model.device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One preset against the reference: ratios of CPU time, a pair each repeat, above 1 where the preset is faster."""

    preset: str
    to_plain: list[float]
    to_cached: list[float] | None
    must_agree_with: str | None
    agreeing: list[float] | None  # share of equal tokens of each repeat

    @property
    def agrees(self) -> bool:
        """Every token of every repeat is the same, or nothing is asked."""
        return self.agreeing is None or min(self.agreeing) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkResult:
    """All comparisons of one kind of request, and the CPU seconds behind them by contender."""

    work: Work
    cpu_s: dict[str, list[float]]
    comparisons: list[Comparison]


def settings_under(preset: Preset, settings: ImageSettings | TextSettings) -> ImageSettings | TextSettings:
    """The settings with a preset's approximations, each step deciding what the schedule says."""
    if isinstance(settings, ImageSettings):
        return without_parallel_commits(preset.image(settings))
    return without_parallel_commits(preset.text(settings))


class ReferenceComparison:
    """One checkpoint in both implementations."""

    def __init__(self, model: Model, reference: ReferenceClone) -> None:
        self._model = model
        self._reference = reference
        self._engine = Engine(model.transformer, model.tokens)

    def run(
        self,
        work: Work,
        num_repeats: int,
        presets: Sequence[Preset],
        report: Callable[[str], None] = print,
        *,
        end_s: float = math.inf,
    ) -> WorkResult:
        """Alternate the contenders; who goes first takes turns too. No repeat but the first begins after ``end_s``."""
        contenders = self._contenders(work, presets)
        made: dict[str, list[Generation]] = {name: [] for name in contenders}
        order = deque(contenders)
        for repeat in range(num_repeats):
            if repeat and time.monotonic() >= end_s:
                break
            for name in order:
                gc.collect()
                started_s = time.process_time()
                ids = contenders[name](repeat)
                made[name].append(Generation(ids=ids, cpu_s=time.process_time() - started_s))
            order.rotate()
            seconds = ", ".join(f"{name} {made[name][-1].cpu_s:.1f}" for name in contenders)
            report(f"{work.name}, repeat {repeat + 1} of {num_repeats}: CPU s: {seconds}")
        return WorkResult(
            work=work,
            cpu_s={name: [one.cpu_s for one in generations] for name, generations in made.items()},
            comparisons=[compare_preset(preset.name, made) for preset in presets],
        )

    def _contenders(self, work: Work, presets: Sequence[Preset]) -> Mapping[str, Callable[[int], Tensor]]:
        contenders: dict[str, Callable[[int], Tensor]] = {PLAIN: lambda repeat: self._reference_ids(work, repeat, None)}
        if isinstance(work.settings, ImageSettings):
            contenders[CACHED] = lambda repeat: self._reference_ids(work, repeat, StepCacheConfig())
        for preset in presets:
            contenders[preset.name] = lambda repeat, preset=preset: self._engine_ids(work, repeat, preset)
        return contenders

    def _reference_ids(self, work: Work, repeat: int, cache: StepCacheConfig | None) -> Tensor:
        request = work.request(self._model, repeat)
        if isinstance(work.settings, TextSettings):
            return self._reference.answer(request)
        return self._reference.image(request, torch.Generator().manual_seed(repeat), cache)

    def _engine_ids(self, work: Work, repeat: int, preset: Preset) -> Tensor:
        self._engine.submit(work.request(self._model, repeat, settings_under(preset, work.settings)))
        while self._engine.num_unfinished:
            for result in self._engine.step():
                if isinstance(result, ImageResult):
                    return result.vq_codes.flatten()
                if isinstance(result, TextResult):
                    return torch.tensor(result.token_ids)
                raise result.error
        raise AssertionError("an engine without unfinished requests has returned all results")


def compare_preset(preset: str, made: Mapping[str, Sequence[Generation]]) -> Comparison:
    """One preset's generations against those of the reference, repeat by repeat."""
    ours = made[preset]
    other = {"exact": PLAIN, "reference-cache": CACHED if CACHED in made else PLAIN}.get(preset)
    return Comparison(
        preset=preset,
        to_plain=[theirs.cpu_s / mine.cpu_s for theirs, mine in zip(made[PLAIN], ours, strict=True)],
        to_cached=(
            [theirs.cpu_s / mine.cpu_s for theirs, mine in zip(made[CACHED], ours, strict=True)]
            if CACHED in made
            else None
        ),
        must_agree_with=other,
        agreeing=None if other is None else [_agreement(a.ids, b.ids) for a, b in zip(made[other], ours, strict=True)],
    )


def _agreement(theirs: Tensor, ours: Tensor) -> float:
    return float((theirs == ours).double().mean()) if theirs.shape == ours.shape else 0.0


def summary(comparisons: Sequence[Comparison]) -> list[str]:
    """A line for each preset: medians, and the range of the pairs."""
    lines = []
    for comparison in comparisons:
        line = f"  {comparison.preset:<16} {_ratio(comparison.to_plain)} the plain reference"
        if comparison.to_cached is not None:
            line += f", {_ratio(comparison.to_cached)} its cache"
        if comparison.agreeing is not None:
            equal = sum(share == 1 for share in comparison.agreeing)
            line += f"; all tokens as {comparison.must_agree_with}: {equal} of {len(comparison.agreeing)}"
        lines.append(line)
    return lines


def _ratio(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def with_steps(work: Work, num_steps: int) -> Work:
    """The same work in another number of steps, for a quick try."""
    return replace(work, settings=replace(work.settings, num_steps=num_steps))
