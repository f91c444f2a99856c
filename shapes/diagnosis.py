"""What kind of mistake a wrong output is, in a word or two: where to look when a category is weak."""

from collections import Counter

import numpy as np

from shapes.answer import read_answer, read_caption
from shapes.goal import AnswerGoal, CaptionGoal, CountGoal, FillGoal, Goal, MapGoal, RelationGoal, SceneGoal
from shapes.phrases import named
from shapes.tile import Codes, codes_scene, scene_codes
from shapes.world import Scene


def image_mistake(goal: Goal, codes: Codes) -> str:
    """The mistake of an image that is not what the goal asks for."""
    if isinstance(goal, MapGoal):
        return "wrong map"
    if isinstance(goal, FillGoal) and np.any((codes != scene_codes(goal.scene)) & (goal.mask == 0)):
        return "kept cell changed"
    scene = codes_scene(codes)
    if scene is None:
        return "mixed tiles"
    match goal:
        case SceneGoal() | FillGoal():
            return _scene_mistake(goal.scene, scene)
        case CountGoal():
            return "wrong background" if scene.style != goal.style else _count_mistake(goal, scene)
        case RelationGoal():
            wanted = Counter((named(goal.first), named(goal.second)))
            if scene.style != goal.style:
                return "wrong background"
            return names_mistake(wanted, _names(scene)) or "wrong relation"
    return "an image instead of a text"


def text_mistake(goal: Goal, text: str) -> str:
    """The mistake of a text that is not what the goal asks for."""
    if isinstance(goal, AnswerGoal):
        return "wrong answer" if read_answer(text) else "not understood"
    if not isinstance(goal, CaptionGoal):
        return "a text instead of an image"
    said = read_caption(text)
    if said is None:
        return "not understood"
    if said.style != goal.scene.style:
        return "wrong background"
    counts: Counter[str] = Counter()
    for piece, number in said.counts.items():
        counts[named(piece)] += number
    return names_mistake(_names(goal.scene), counts) or "wrong cell"


def names_mistake(wanted: Counter[str], found: Counter[str]) -> str | None:
    """How the objects that are there differ from those that should be, None if they do not.

    A name is a shape, or a colour and a shape.
    """
    if wanted == found:
        return None
    if found.total() < wanted.total():
        return "missing object"
    if found.total() > wanted.total():
        return "doubled object" if set(found) == set(wanted) else "extra object"
    has_colours = _colours(wanted) == _colours(found)
    has_shapes = _shapes(wanted) == _shapes(found)
    if has_colours and has_shapes:
        return "swapped colours"
    if has_shapes:
        return "wrong colour"
    return "wrong shape" if has_colours else "wrong object"


def _scene_mistake(wanted: Scene, scene: Scene) -> str:
    if scene.style != wanted.style:
        return "wrong background"
    return names_mistake(_names(wanted), _names(scene)) or "wrong cell"


def _count_mistake(goal: CountGoal, scene: Scene) -> str:
    is_by_shape = not any(" " in name for name in goal.counts)
    names = _names(scene)
    if is_by_shape:
        names = Counter(piece.shape for _, piece in scene.placed)
    return names_mistake(Counter(goal.counts), names) or "unreadable"


def _names(scene: Scene) -> Counter[str]:
    return Counter(named(piece) for _, piece in scene.placed)


def _colours(names: Counter[str]) -> list[str]:
    return sorted(name.rpartition(" ")[0] for name in names.elements())


def _shapes(names: Counter[str]) -> list[str]:
    return sorted(name.rpartition(" ")[2] for name in names.elements())
