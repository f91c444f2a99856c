"""What training draws when: a task that everything else rests on first, alone.

Words are bound to each other and to places within 250 steps if nothing but prompts that need it is shown, and were not
in 18,000 steps of all tasks at once. What is known then is kept while the others join.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shapes.task import TASKS
from shapes.world import BOARDS, Board

KIND_WEIGHTS = {
    "single object": 0.3,
    "colours": 0.5,
    "two objects": 0.7,
    "counting": 1.0,
    "position": 2.0,
    "binding": 2.0,
    "cells": 3.0,
    "rectangle": 0.7,
    "recolour": 4.0,
    "reshape": 4.0,
    "remove": 3.0,
    "add": 3.0,
    "move": 5.0,
    "background": 0.3,
    "with others": 2.5,
    "style": 0.8,
    "edges": 0.7,
    "segments": 0.5,
    "short": 1.5,
    "detailed": 3.0,
    "existence": 1.5,
    "count": 1.2,
    "same": 1.0,
    "content": 4.0,
    "place": 3.0,
    "relation": 2.5,
    "more": 2.0,
    "match": 8.0,
}
"""How often kinds are drawn, 1 if not given: more of what ties words to places, less of what is learned at once."""

MAX_PIECES = 2
"""Pieces of a scene: with four from an eighth of the training on, words were not tied to pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the training.

    Attributes:
        from_share: Share of the training from which on it holds.
        tasks: What is drawn.
        kinds: Which of their kinds; all of them if empty.
        boards: Of the scenes. On one board a place is at one distance, and to look there is learned sooner.
        weights: How often some kinds are drawn, in place of ``KIND_WEIGHTS``.
    """

    from_share: float
    tasks: Sequence[str]
    kinds: Sequence[str] = ()
    boards: Sequence[Board] = BOARDS
    weights: Mapping[str, float] = field(default_factory=dict)


_PROMPTS = ("text_to_image",)
_QUESTIONS = ("questions",)
_COPIES = ("inpainting", "outpainting", "editing", "subject", "style_transfer", "dense_prediction", "control")

COURSES: Mapping[str, Sequence[Stage]] = {
    "all-tasks": (
        Stage(from_share=0.0, tasks=_PROMPTS, boards=BOARDS[-1:]),
        Stage(from_share=0.07, tasks=(*_PROMPTS, *_COPIES), boards=BOARDS[-1:]),
        Stage(from_share=0.2, tasks=tuple(TASKS), boards=BOARDS[-1:]),
        Stage(from_share=0.3, tasks=tuple(TASKS)),
    ),
    "questions": (
        Stage(from_share=0.0, tasks=_QUESTIONS, kinds=("existence",)),
        Stage(from_share=0.05, tasks=_QUESTIONS, kinds=("existence", "count", "content", "place")),
        Stage(from_share=0.15, tasks=_QUESTIONS),
        Stage(from_share=0.3, tasks=tuple(TASKS)),
    ),
    "comparisons": (
        Stage(from_share=0.0, tasks=_QUESTIONS, kinds=("count", "relation")),
        Stage(from_share=0.1, tasks=_QUESTIONS, kinds=("count", "relation", "same", "more")),
        Stage(from_share=0.3, tasks=_QUESTIONS, kinds=("count", "relation", "same", "more", "match", "existence")),
        Stage(from_share=0.45, tasks=_QUESTIONS),
        Stage(from_share=0.6, tasks=tuple(TASKS)),
    ),
    "matches": (
        Stage(from_share=0.0, tasks=_QUESTIONS, kinds=("same", "more", "match")),
        Stage(from_share=0.3, tasks=("questions", "captioning")),
        Stage(from_share=0.41, tasks=tuple(TASKS)),
    ),
    "edits": (
        Stage(from_share=0.0, tasks=("editing",), kinds=("recolour", "reshape", "remove", "add", "move")),
        Stage(from_share=0.4, tasks=tuple(TASKS), weights={"move": 7.0, "match": 4.0}),
    ),
    "all-again": (
        Stage(
            from_share=0.0,
            tasks=tuple(TASKS),
            weights={"edges": 2.5, "segments": 2.5, "with others": 3.0, "style": 1.5, "content": 5.0, "move": 6.0},
        ),
    ),
}
"""What is drawn when: of a model that begins, and of one that has been through the courses before."""

MUON_RATES = {
    "all-tasks": 0.005,
    "questions": 0.008,
    "comparisons": 0.008,
    "matches": 0.008,
    "edits": 0.006,
    "all-again": 0.005,
}
"""How far a step moves the matrices, by course."""


def stage_at(course: str, progress: float) -> Stage:
    """The stage of a course that holds at a share of the training."""
    return [stage for stage in COURSES[course] if stage.from_share <= progress][-1]


def kinds_at(course: str, progress: float) -> tuple[list[tuple[str, str]], list[float]]:
    """Tasks with their kinds, and how often each is drawn."""
    stage = stage_at(course, progress)
    names = [(task, kind) for task in stage.tasks for kind in stage.kinds or TASKS[task]]
    return names, [stage.weights.get(kind, KIND_WEIGHTS.get(kind, 1.0)) for _, kind in names]
