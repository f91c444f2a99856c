"""What one step computes: the distinct streams of all running requests, and which request each belongs to."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo_core.engine.kv_cache import ComputedPart
from dimoo_core.engine.scheduler import Slot
from dimoo_core.model.packed_batch import StreamView, pack
from dimoo_core.model.transformer import Transformer


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """One stream of one request: its index, the view that serves it, and what it computes if it has a cache."""

    stream: int
    view: int
    part: ComputedPart | None


class StepBatch:
    """The streams of one step, planned from what the requests read next.

    Requests at their first step may share streams: the unconditional prompt of images of one size, or the prompt itself
    of several seeds. Streams that go through a step cache are never shared.
    """

    def __init__(self, slots: list[Slot]) -> None:
        self._slots = slots
        self._views: list[StreamView] = []
        self._first_seen: dict[tuple[int, bytes, bytes], int] = {}
        self._reads = [slot.decoding.reads() for slot in slots]
        self._members = [self._plan(slot, reads_M) for slot, reads_M in zip(slots, self._reads, strict=True)]
        self._order = sorted(range(len(self._views)), key=self._rank)

    def num_tokens(self) -> list[tuple[Slot, int, int]]:
        """For each request, tokens computed for it and tokens that another request's streams spare it."""
        booked: set[int] = set()
        counts: list[tuple[Slot, int, int]] = []
        for slot, members in zip(self._slots, self._members, strict=True):
            computed = shared = 0
            for member in members:
                length = len(self._views[member.view].ids_T)
                shared += length if member.view in booked else 0
                computed += 0 if member.view in booked else length
                booked.add(member.view)
            counts.append((slot, computed, shared))
        return counts

    def logits(self, transformer: Transformer) -> list[list[Tensor | None]]:
        """One forward pass; logits at what each request reads, (M, V) float32, for each of its streams that is due."""
        in_order = [self._views[index] for index in self._order]
        hidden_RE = transformer(pack(in_order, transformer.device))
        parts = torch.split(hidden_RE, [len(view.read_R) for view in in_order])
        fresh = self._head(transformer, dict(zip(self._order, parts, strict=True)))
        completed: list[list[Tensor | None]] = []
        for slot, members, reads_M in zip(self._slots, self._members, self._reads, strict=True):
            of_streams: list[Tensor | None] = [None] * len(slot.decoding.request.streams)
            for member in members:
                of_streams[member.stream] = self._complete(slot, member, fresh[member.view], reads_M)
            completed.append(of_streams)
        return completed

    def _plan(self, slot: Slot, reads_M: Tensor) -> list[_Member]:
        members: list[_Member] = []
        step, ids = slot.decoding.num_steps_run, slot.decoding.stream_ids()
        for stream in slot.decoding.due():
            ids_T, target_start = ids[stream]
            part = slot.cache.part(stream, step, reads_M) if slot.cache is not None else None
            if part is not None and part.slab is not None:
                ids_C = ids_T if part.positions_C is None else ids_T[part.positions_C]
                view = StreamView(ids_C, part.read_R, part.positions_C, part.slab)
                members.append(_Member(stream, self._add(view), part))
            else:
                view = StreamView(ids_T, reads_M + target_start)
                members.append(_Member(stream, self._find_or_add(slot, view), part))
        return members

    def _rank(self, view: int) -> tuple[bool, tuple[int, ...]]:
        """Where a stream goes: equal lengths, or keys that are neighbours in memory, are one call of attention."""
        slab = self._views[view].slab
        return slab is not None, self._views[view].lengths if slab is None else slab.place

    def _find_or_add(self, slot: Slot, view: StreamView) -> int:
        if slot.decoding.num_steps_run > 0:
            return self._add(view)
        content = (view.ids_T.cpu().numpy().tobytes(), view.read_R.cpu().numpy().tobytes())
        key = (slot.decoding.columns.start, *content)
        if key not in self._first_seen:
            self._first_seen[key] = self._add(view)
        return self._first_seen[key]

    def _add(self, view: StreamView) -> int:
        self._views.append(view)
        return len(self._views) - 1

    def _head(self, transformer: Transformer, hidden: dict[int, Tensor]) -> dict[int, Tensor]:
        """Logits of each view; views that are read in the same columns share one matrix product."""
        columns_of = {
            member.view: (slot.decoding.columns.start, slot.decoding.columns.stop)
            for slot, members in zip(self._slots, self._members, strict=True)
            for member in members
        }
        logits: dict[int, Tensor] = {}
        for columns in sorted(set(columns_of.values())):
            views = [view for view, wanted in columns_of.items() if wanted == columns]
            rows_RE = torch.cat([hidden[view] for view in views])
            parts = torch.split(transformer.logits(rows_RE, slice(*columns)), [len(hidden[view]) for view in views])
            logits |= dict(zip(views, parts, strict=True))
        return logits

    @staticmethod
    def _complete(slot: Slot, member: _Member, fresh_RV: Tensor, reads_M: Tensor) -> Tensor:
        if slot.cache is None or member.part is None:
            return fresh_RV
        return slot.cache.absorb(member.stream, slot.decoding.num_steps_run, member.part, fresh_RV, reads_M)
