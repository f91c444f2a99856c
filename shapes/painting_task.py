"""Inpainting and outpainting examples: a prompt of the whole scene, some cells kept, the others to be filled in."""

from collections.abc import Callable, Collection

import numpy as np

from dimoo_core.request.templates import TEXT_TO_IMAGE_SYSTEM
from shapes.example import Example
from shapes.goal import FillGoal
from shapes.scene_source import SceneSource
from shapes.split import scene_key
from shapes.text_to_image_task import placed_prompt
from shapes.tile import scene_codes
from shapes.world import Board, Cell, Scene

INPAINTING, OUTPAINTING = "inpainting", "outpainting"


def cells(source: SceneSource) -> Example:
    """Any cells are to be filled in, few or many."""
    scene = source.scene()
    number = source.rng.randint(1, len(scene.board.cells) - 1)
    return _example(source, INPAINTING, "cells", scene, source.cells(scene.board, number))


def rectangle(source: SceneSource) -> Example:
    """A rectangle of cells is to be filled in."""
    scene = source.scene()
    return _example(source, INPAINTING, "rectangle", scene, _rectangle(source, scene.board))


def frame(source: SceneSource) -> Example:
    """Everything around a rectangle is to be filled in."""
    scene = source.scene()
    kept = set(_rectangle(source, scene.board))
    return _example(source, OUTPAINTING, "frame", scene, [cell for cell in scene.board.cells if cell not in kept])


def _rectangle(source: SceneSource, board: Board) -> list[Cell]:
    """Cells of a rectangle that is smaller than the board in both directions."""
    height, width = source.rng.randint(1, board.rows - 1), source.rng.randint(1, board.columns - 1)
    top, left = source.rng.randint(0, board.rows - height), source.rng.randint(0, board.columns - width)
    return [(row, column) for row in range(top, top + height) for column in range(left, left + width)]


def _example(source: SceneSource, task: str, kind: str, scene: Scene, filled: Collection[Cell]) -> Example:
    codes = scene_codes(scene)
    mask = np.zeros_like(codes)
    for cell in filled:
        mask[cell] = 1
    return Example(
        task=task,
        kind=kind,
        system=TEXT_TO_IMAGE_SYSTEM,
        prompt=placed_prompt(source, scene),
        target_codes=codes,
        mask=mask,
        goal=FillGoal(scene, mask),
        scenes=(scene,),
        key=scene_key(scene),
    )


INPAINTING_KINDS: dict[str, Callable[[SceneSource], Example]] = {"cells": cells, "rectangle": rectangle}
OUTPAINTING_KINDS: dict[str, Callable[[SceneSource], Example]] = {"frame": frame}
