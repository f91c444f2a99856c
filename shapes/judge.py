"""Whether an output is right: what the verifier reads, held against the example's goal."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from PIL import Image

from shapes.answer import read_answer, read_caption
from shapes.example import Example
from shapes.goal import AnswerGoal, CaptionGoal, CountGoal, FillGoal, Goal, MapGoal, RelationGoal, SceneGoal
from shapes.layouts import is_related
from shapes.phrases import counted, named
from shapes.tile import TILES, Codes, Pixels, map_codes, scene_codes
from shapes.verifier import Unreadable, read_codes, read_scene
from shapes.world import Board, Scene, cell_name


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an output is right, its category, and if it is wrong, why."""

    is_right: bool
    category: str
    reason: str = ""


def judge(example: Example, output: Image.Image | Pixels | str, codes: Codes | None = None) -> Verdict:
    """The verdict on one output.

    Args:
        example: What was asked.
        output: The image or the text.
        codes: The image's VQ codes as they were generated; required where cells must keep their codes exactly.

    Raises:
        ValueError: If codes are required and not given.
    """
    reason = _fault(example.goal, output, codes)
    return Verdict(reason is None, example.category, reason or "")


def _fault(goal: Goal, output: Image.Image | Pixels | str, codes: Codes | None) -> str | None:
    """What is wrong with the output, None if nothing is."""
    if isinstance(output, str):
        match goal:
            case CaptionGoal():
                return _caption_fault(goal, output)
            case AnswerGoal():
                return _answer_fault(goal, output)
        return "a text, where an image was asked for"
    match goal:
        case CaptionGoal() | AnswerGoal():
            return "an image, where a text was asked for"
        case MapGoal():
            return _map_fault(goal, output)
        case FillGoal() if (fault := _kept_fault(goal, codes)) is not None:
            return fault
    scene = read_scene(output)
    if isinstance(scene, Unreadable):
        return scene.reason
    return scene_fault(goal, scene)


def scene_fault(goal: Goal, scene: Scene) -> str | None:
    """In what a scene differs from a goal that is about scenes, None if in nothing.

    Raises:
        ValueError: The goal is a map or a text.
    """
    match goal:
        case SceneGoal() | FillGoal():
            return _scene_fault(goal.scene, scene)
        case CountGoal():
            return _ground_fault(goal.board, goal.style, scene) or _count_fault(goal, scene)
        case RelationGoal():
            return _ground_fault(goal.board, goal.style, scene) or _relation_fault(goal, scene)
    raise ValueError(f"a {type(goal).__name__} is not about a scene")


def _ground_fault(board: Board, style: str, scene: Scene) -> str | None:
    if scene.board != board:
        return f"a board of {scene.board.rows}x{scene.board.columns}, not {board.rows}x{board.columns}"
    return f"a {scene.style} background, not {style}" if scene.style != style else None


def _scene_fault(wanted: Scene, scene: Scene) -> str | None:
    if (fault := _ground_fault(wanted.board, wanted.style, scene)) is not None:
        return fault
    for cell in wanted.board.cells:
        want, have = wanted.pieces.get(cell), scene.pieces.get(cell)
        if want != have:
            names = [named(piece) if piece else "nothing" for piece in (have, want)]
            return f"{cell_name(cell)}: {names[0]}, not {names[1]}"
    return None


def _count_fault(goal: CountGoal, scene: Scene) -> str | None:
    is_by_shape = not any(" " in name for name in goal.counts)
    found = Counter(piece.shape if is_by_shape else named(piece) for _, piece in scene.placed)
    if found == Counter(goal.counts):
        return None
    wanted = " and ".join(counted(name, number) for name, number in goal.counts.items())
    return f"{dict(found)}, not {wanted}"


def _relation_fault(goal: RelationGoal, scene: Scene) -> str | None:
    if scene.counts != Counter((goal.first, goal.second)):
        return f"{[named(piece) for _, piece in scene.placed]}, not {named(goal.first)} and {named(goal.second)}"
    cells = {piece: cell for cell, piece in scene.placed}
    if not is_related(cells[goal.first], goal.relation, cells[goal.second]):
        where = [f"{named(piece)} at {cell_name(cell)}" for piece, cell in cells.items()]
        return f"{' and '.join(where)}: {named(goal.first)} is not {goal.relation} {named(goal.second)}"
    return None


def _map_fault(goal: MapGoal, output: Image.Image | Pixels) -> str | None:
    codes = read_codes(output)
    if isinstance(codes, Unreadable):
        return codes.reason
    return _codes_fault(map_codes(goal.scene, goal.family), codes, np.ones_like(codes))


def _kept_fault(goal: FillGoal, codes: Codes | None) -> str | None:
    if codes is None:
        raise ValueError("an image with kept cells can be judged only with its codes")
    return _codes_fault(scene_codes(goal.scene), codes, 1 - goal.mask)


def _codes_fault(wanted: Codes, codes: Codes, where: Codes) -> str | None:
    """The first code that differs where it must not."""
    if codes.shape != wanted.shape:
        return f"a board of {codes.shape[0]}x{codes.shape[1]}, not {wanted.shape[0]}x{wanted.shape[1]}"
    for row, column in np.argwhere((codes != wanted) & (where == 1)):
        code = int(codes[row, column])
        tile = TILES[code] if 0 <= code < len(TILES) else "an unused code"
        return f"{cell_name((row, column))}: {tile}, not {TILES[wanted[row, column]]}"
    return None


def _caption_fault(goal: CaptionGoal, text: str) -> str | None:
    said = read_caption(text)
    if said is None:
        return "not understood"
    if said.counts != goal.scene.counts:
        return "wrong pieces or counts"
    if said.style != goal.scene.style:
        return f"background {said.style}, not {goal.scene.style}"
    wanted = goal.scene.pieces
    is_placed = said.cells == wanted if goal.is_detailed else all(wanted.get(c) == p for c, p in said.cells.items())
    return None if is_placed else "wrong cells"


def _answer_fault(goal: AnswerGoal, text: str) -> str | None:
    said, wanted = read_answer(text), read_answer(goal.answer)
    is_right = wanted <= said <= wanted | read_answer(goal.evidence)
    return None if is_right else f"{' and '.join(sorted(said)) or 'nothing'}, not {goal.answer}"
