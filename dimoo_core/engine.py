"""Step-level continuous batching: requests of any task and size join and leave between steps.

The engine batches; what a step means for a request is in ``image_decoding`` and ``text_decoding``. Not safe to share
by threads: one thread owns it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo_core.decoding import Decoding, StepTrace
from dimoo_core.engine_config import BatchInvariance, EngineConfig
from dimoo_core.errors import BatchTooLarge
from dimoo_core.image_decoding import ImageDecoding
from dimoo_core.packing import StreamView, pack
from dimoo_core.request import ImageResult, Request, RequestFailed, Result, TextResult
from dimoo_core.row_invariance import FREE, RowPolicy, probe_row_policy
from dimoo_core.scheduler import Scheduler, Slot
from dimoo_core.settings import ImageSettings
from dimoo_core.text_decoding import TextDecoding
from dimoo_core.tokens import SpecialTokens
from dimoo_core.transformer import Transformer


@dataclass(slots=True)
class EngineStats:
    """Counts since the engine was made."""

    num_steps: int = 0
    num_tokens: int = 0  # that went through the transformer
    num_tokens_shared: int = 0  # that did not, since another request had the same stream
    busy_s: float = 0.0


class Engine:
    """Runs requests on one transformer.

    Args:
        transformer: Loaded weights; its row policy is set here.
        tokens: Special ids of the same checkpoint.
        config: Batching.
        observe: Called after each step of each request, for tests and replays.
    """

    def __init__(
        self,
        transformer: Transformer,
        tokens: SpecialTokens,
        config: EngineConfig | None = None,
        observe: Callable[[str, StepTrace], None] | None = None,
    ) -> None:
        self.config = config or EngineConfig()
        self.stats = EngineStats()
        self._transformer = transformer
        self._tokens = tokens
        self._observe = observe
        self._scheduler = Scheduler(self.config.max_step_tokens)
        transformer.row_policy = _row_policy(transformer, self.config.batch_invariance)

    @property
    def num_unfinished(self) -> int:
        """Requests submitted and not yet returned."""
        return len(self._scheduler.waiting) + len(self._scheduler.running)

    def can_admit_more(self) -> bool:
        """Whether a request submitted now would very likely run in the next step."""
        return self._scheduler.can_admit_more()

    def submit(self, request: Request) -> None:
        """Queue a request; it joins at the next step with room for it."""
        kind = ImageDecoding if isinstance(request.settings, ImageSettings) else TextDecoding
        decoding: Decoding = kind(request, self._tokens, self._transformer.device)
        self._scheduler.waiting.append(Slot(decoding, request.num_tokens))

    def step(self) -> list[Result]:
        """Run one denoising step of every running request and return those that ended with it.

        A batch that does not fit the device's memory is halved and tried again; a request that does not fit alone
        is returned as failed.
        """
        started_s = time.perf_counter()
        self._scheduler.admit(started_s)
        results: list[Result] = []
        if any(not slot.decoding.is_done for slot in self._scheduler.running):
            try:
                self._advance([slot for slot in self._scheduler.running if not slot.decoding.is_done])
            except torch.OutOfMemoryError as error:
                results += self._shrink(error)
        self.stats.busy_s += time.perf_counter() - started_s
        return results + self._retire()

    @torch.inference_mode()
    def _advance(self, slots: list[Slot]) -> None:
        views, owners = self._stream_views(slots)
        hidden_RE = self._transformer(pack(views, self._transformer.device))
        self._count(slots, views, owners)
        lengths = [len(view.read_R) for view in views]
        logits = _head(self._transformer, torch.split(hidden_RE, lengths), owners, slots)
        for slot, of_streams in zip(slots, logits, strict=True):
            trace = slot.decoding.advance(of_streams)
            if self._observe is not None:
                self._observe(slot.decoding.request.request_id, trace)
        self.stats.num_steps += 1

    def _stream_views(self, slots: list[Slot]) -> tuple[list[StreamView], list[list[int]]]:
        """Distinct streams of this step, and for each slot which of them are its own, in its streams' order.

        Requests at their first step may share streams: the unconditional prompt of images of one size, or the prompt
        itself of several seeds.
        """
        views: list[StreamView] = []
        owners: list[list[int]] = []
        first_seen: dict[tuple[int, bytes, bytes], int] = {}
        for slot in slots:
            reads, own = slot.decoding.reads(), []
            for ids, target_start in slot.decoding.stream_ids():
                view = StreamView(ids, reads + target_start)
                index = len(views)
                if slot.decoding.num_steps_run == 0:
                    content = (ids.cpu().numpy().tobytes(), view.read_R.cpu().numpy().tobytes())
                    key = (slot.decoding.columns.start, *content)
                    index = first_seen.setdefault(key, index)
                if index == len(views):
                    views.append(view)
                own.append(index)
            owners.append(own)
        return views, owners

    def _count(self, slots: list[Slot], views: list[StreamView], owners: list[list[int]]) -> None:
        """Book the tokens of a pass that succeeded; a shared stream is booked on the first request that has it."""
        booked: set[int] = set()
        for slot, own in zip(slots, owners, strict=True):
            for index in own:
                num_tokens = len(views[index].ids_T)
                if index in booked:
                    self.stats.num_tokens_shared += num_tokens
                else:
                    booked.add(index)
                    slot.tokens_computed += num_tokens
                    self.stats.num_tokens += num_tokens

    def _shrink(self, error: torch.OutOfMemoryError) -> list[Result]:
        torch.cuda.empty_cache()
        if len(self._scheduler.running) > 1:
            self._scheduler.shed_half()
            return []
        slot = self._scheduler.running.pop()
        self._scheduler.max_step_tokens = self.config.max_step_tokens  # this request was too large, not the batches
        too_large = BatchTooLarge(
            f"{slot.num_tokens} tokens do not fit into the memory of {self._transformer.device} even alone: "
            "ask for a smaller image or a shorter answer"
        )
        too_large.__cause__ = error
        return [RequestFailed(request_id=slot.decoding.request.request_id, error=too_large)]

    def _retire(self) -> list[Result]:
        now_s = time.perf_counter()
        done = [slot for slot in self._scheduler.running if slot.decoding.is_done]
        self._scheduler.running = [slot for slot in self._scheduler.running if not slot.decoding.is_done]
        return [_result(slot, now_s) for slot in done]


def _row_policy(transformer: Transformer, invariance: BatchInvariance) -> RowPolicy:
    if invariance == "off" or (invariance == "auto" and transformer.device.type == "cuda"):
        return FREE
    return probe_row_policy(transformer.linear_shapes(), transformer.dtype, transformer.device)


def _head(
    transformer: Transformer, hidden: tuple[Tensor, ...], owners: list[list[int]], slots: list[Slot]
) -> list[list[Tensor]]:
    """Logits of each slot's streams; slots that read the same columns share one matrix product."""
    logits: dict[int, Tensor] = {}
    columns_of = {index: slot.decoding.columns for slot, own in zip(slots, owners, strict=True) for index in own}
    for start, stop in sorted({(columns.start, columns.stop) for columns in columns_of.values()}):
        members = [index for index, columns in columns_of.items() if (columns.start, columns.stop) == (start, stop)]
        rows = torch.cat([hidden[index] for index in members])
        parts = torch.split(transformer.logits(rows, slice(start, stop)), [len(hidden[index]) for index in members])
        logits |= dict(zip(members, parts, strict=True))
    return [[logits[index] for index in own] for own in owners]


def _result(slot: Slot, now_s: float) -> Result:
    decoding = slot.decoding
    assert slot.admitted_at_s is not None
    engine_s = now_s - slot.admitted_at_s
    request_id = decoding.request.request_id
    if isinstance(decoding, ImageDecoding):
        return ImageResult(
            request_id=request_id,
            vq_codes=decoding.vq_codes(),
            num_steps=decoding.num_steps_run,
            num_tokens=slot.tokens_computed,
            engine_s=engine_s,
        )
    assert isinstance(decoding, TextDecoding)
    token_ids, finish_reason = decoding.answer()
    return TextResult(
        request_id=request_id,
        token_ids=token_ids,
        finish_reason=finish_reason,
        num_steps=decoding.num_steps_run,
        num_tokens=slot.tokens_computed,
        engine_s=engine_s,
    )
