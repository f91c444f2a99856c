"""One implementation with its weights loaded, running rows one after the other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.acceptance.difference import Difference, StepWatch
from benchmarks.acceptance.inputs import Inputs
from benchmarks.acceptance.noise import ReplayedNoise, generator
from benchmarks.acceptance.row import Row
from benchmarks.reference_clone import ReferenceClone
from dimoo_core.checkpoint.load import load_model
from dimoo_core.decoding.base import StepTrace
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import BatchTooLarge
from dimoo_core.presets import Preset
from dimoo_core.request.request import ImageResult, Request, RequestFailed, Result, TextResult
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import DtypeName, ImageSettings, TextSettings

_WARM_UP = ImageSettings(width_px=64, height_px=64, num_steps=2)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Made:
    """What one implementation made of a row.

    ``ids`` are the codes of an image, (rows, columns), or the ids of an answer with masks where it was given up early.
    ``states`` are the target before each step, and ``difference`` where the engine first parted from the reference's.
    """

    ids: Tensor
    seconds: float
    states: Sequence[Tensor] = ()
    difference: Difference | None = None

    def answer_ids(self, tokens: SpecialTokens) -> Tensor:
        """All of an image; of an answer what stands before its first end token, or before what was never decided."""
        if self.ids.dim() == 2:
            return self.ids
        is_end = torch.isin(self.ids, torch.tensor([tokens.mask, tokens.answer_end, tokens.end_of_text]))
        return self.ids[: int(is_end.int().argmax())] if bool(is_end.any()) else self.ids


class ReferenceTurn:
    """The reference in one dtype."""

    def __init__(self, clone: Path, checkpoint: Path, inputs: Inputs, device: torch.device, dtype: DtypeName) -> None:
        self._inputs = inputs
        self._device = device
        self._clone = ReferenceClone(clone, checkpoint, inputs.tokens, device=device, dtype=getattr(torch, dtype))
        self._generate(warm_up(inputs), 0)

    def run(self, row: Row) -> Made:
        """Generate one row."""
        request = self._inputs.request(row)
        with self._clone.watched(request) as states:
            started_s = now(self._device)
            ids = self._generate(request, row.seed)
            seconds = now(self._device) - started_s
        return Made(ids=_as_grid(ids, request), seconds=seconds, states=states)

    def _generate(self, request: Request, seed: int) -> Tensor:
        if isinstance(request.settings, TextSettings):
            return self._clone.answer(request)
        return self._clone.image(request, generator(seed, self._device), None)


class EngineTurn:
    """The engine in one dtype, one request at a time."""

    def __init__(self, checkpoint: Path, inputs: Inputs, device: torch.device, dtype: DtypeName) -> None:
        self._inputs = inputs
        self._device = device
        self._dtype: torch.dtype = getattr(torch, dtype)
        model = load_model(checkpoint, device=str(device), dtype=dtype)
        self._engine = Engine(model.transformer, model.tokens, observe=self._observe)
        self._watch: StepWatch | None = None
        self._generate(warm_up(inputs))

    def run(self, row: Row, preset: Preset, reference: Made | None) -> Made:
        """Generate one row under a preset, step by step against what the reference made of it, if given."""
        settings = row.settings
        changed = preset.image(settings) if isinstance(settings, ImageSettings) else preset.text(settings)
        noise = ReplayedNoise(row.seed, self._device, self._dtype)
        request = row.request(self._inputs.layout, self._inputs.codes(row), noise, changed)
        watch = None
        if reference is not None:
            final = target_of(reference.ids, request, self._inputs)
            watch = StepWatch(request, self._inputs.tokens, noise, reference.states, final)
        self._watch = watch
        started_s = now(self._device)
        result = self._generate(request)
        seconds = now(self._device) - started_s
        self._watch = None
        difference = None if watch is None else watch.difference
        if isinstance(result, ImageResult):
            return Made(ids=result.vq_codes, seconds=seconds, difference=difference)
        assert isinstance(result, TextResult)
        ids = torch.tensor(result.token_ids, dtype=torch.int64) if watch is None else watch.target
        return Made(ids=ids, seconds=seconds, difference=difference)

    def _observe(self, _request_id: str, trace: StepTrace) -> None:
        if self._watch is not None:
            self._watch.see(trace)

    def _generate(self, request: Request) -> Result:
        self._engine.submit(request)
        while self._engine.num_unfinished:
            for result in self._engine.step():
                if not isinstance(result, RequestFailed):
                    return result
                if isinstance(result.error, BatchTooLarge):
                    raise torch.OutOfMemoryError(str(result.error)) from result.error
                raise result.error
        raise AssertionError("an engine without unfinished requests has returned all results")


def target_of(ids: Tensor, request: Request, inputs: Inputs) -> Tensor:
    """The whole target that codes or answer ids stand for."""
    if ids.dim() == 1:
        return ids
    target = request.target.clone()
    target[target != inputs.tokens.newline] = ids.flatten() + inputs.tokens.image_offset
    return target


def _as_grid(ids: Tensor, request: Request) -> Tensor:
    settings = request.settings
    return ids.view(settings.height_px // 16, -1) if isinstance(settings, ImageSettings) else ids


def warm_up(inputs: Inputs) -> Request:
    """A small request, so that libraries and kernels are loaded before anything is timed."""
    noise = ReplayedNoise(0, inputs.device, torch.float32)
    return inputs.layout.text_to_image("warm-up", "warm up", _WARM_UP, noise)


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
