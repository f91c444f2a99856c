"""What one step computes: the distinct sequences of all running requests, and which request each belongs to."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo_core.engine.kv_cache import CachePlan
from dimoo_core.engine.scheduler import RequestState
from dimoo_core.model.packed_batch import SequenceView, pack
from dimoo_core.model.transformer import Transformer


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """One sequence of one request: its index, the view that serves it, and what it computes if it has a cache."""

    sequence: int
    view: int
    plan: CachePlan | None


class StepBatch:
    """The sequences of one step, planned from what the requests read next.

    Requests at their first step may share sequences: the unconditional prompt of images of one size, or the prompt
    itself of several seeds. Sequences that go through a step cache are never shared.
    """

    def __init__(self, states: list[RequestState]) -> None:
        self._states = states
        self._views: list[SequenceView] = []
        self._first_seen: dict[tuple[int, bytes, bytes], int] = {}
        self._reads = [state.decoding.reads() for state in states]
        self._members = [self._plan(state, reads_M) for state, reads_M in zip(states, self._reads, strict=True)]
        self._order = sorted(range(len(self._views)), key=self._rank)

    def num_tokens(self) -> list[tuple[RequestState, int, int]]:
        """For each request, tokens computed for it and tokens that another request's sequences spare it."""
        booked: set[int] = set()
        counts: list[tuple[RequestState, int, int]] = []
        for state, members in zip(self._states, self._members, strict=True):
            computed = shared = 0
            for member in members:
                length = len(self._views[member.view].ids_T)
                shared += length if member.view in booked else 0
                computed += 0 if member.view in booked else length
                booked.add(member.view)
            counts.append((state, computed, shared))
        return counts

    def logits(self, transformer: Transformer) -> list[list[Tensor | None]]:
        """One forward pass; logits at what each request reads, (M, V) float32, for each sequence that is due."""
        in_order = [self._views[index] for index in self._order]
        hidden_RE = transformer(pack(in_order, transformer.device))
        parts = torch.split(hidden_RE, [len(view.read_R) for view in in_order])
        fresh = self._head(transformer, dict(zip(self._order, parts, strict=True)))
        completed: list[list[Tensor | None]] = []
        for state, members, reads_M in zip(self._states, self._members, self._reads, strict=True):
            of_sequences: list[Tensor | None] = [None] * len(state.decoding.request.sequences)
            for member in members:
                of_sequences[member.sequence] = self._complete(state, member, fresh[member.view], reads_M)
            completed.append(of_sequences)
        return completed

    def _plan(self, state: RequestState, reads_M: Tensor) -> list[_Member]:
        members: list[_Member] = []
        step, ids = state.decoding.num_steps_run, state.decoding.sequence_ids()
        for sequence in state.decoding.due():
            ids_T, target_start = ids[sequence]
            plan = state.cache.plan(sequence, step, reads_M) if state.cache is not None else None
            if plan is not None and plan.block is not None:
                ids_C = ids_T if plan.positions_C is None else ids_T[plan.positions_C]
                view = SequenceView(ids_C, plan.read_R, plan.positions_C, plan.block)
                members.append(_Member(sequence, self._add(view), plan))
            else:
                view = SequenceView(ids_T, reads_M + target_start)
                members.append(_Member(sequence, self._find_or_add(state, view), plan))
        return members

    def _rank(self, view: int) -> tuple[bool, tuple[int, ...]]:
        """Where a sequence goes: equal lengths, or keys that are neighbours in memory, are one call of attention."""
        block = self._views[view].block
        return block is not None, self._views[view].lengths if block is None else block.place

    def _find_or_add(self, state: RequestState, view: SequenceView) -> int:
        if state.decoding.num_steps_run > 0:
            return self._add(view)
        content = (view.ids_T.cpu().numpy().tobytes(), view.read_R.cpu().numpy().tobytes())
        key = (state.decoding.columns.start, *content)
        if key not in self._first_seen:
            self._first_seen[key] = self._add(view)
        return self._first_seen[key]

    def _add(self, view: SequenceView) -> int:
        self._views.append(view)
        return len(self._views) - 1

    def _head(self, transformer: Transformer, hidden: dict[int, Tensor]) -> dict[int, Tensor]:
        """Logits of each view; views that are read in the same columns share one matrix product."""
        columns_of = {
            member.view: (state.decoding.columns.start, state.decoding.columns.stop)
            for state, members in zip(self._states, self._members, strict=True)
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
    def _complete(state: RequestState, member: _Member, fresh_RV: Tensor, reads_M: Tensor) -> Tensor:
        if state.cache is None or member.plan is None:
            return fresh_RV
        return state.cache.update(member.sequence, state.decoding.num_steps_run, member.plan, fresh_RV, reads_M)
