"""Whether an image is what a text-to-image prompt asks for: the question behind ``score`` and ``best_of``.

Images that do not match are near misses of the kinds that generation makes: one piece too many or too few, a wrong or
swapped colour, a wrong shape, cell, relation or background.
"""

from collections.abc import Callable

from dimoo_core.request.templates import UNDERSTANDING_SYSTEM
from shapes.example import Example
from shapes.goal import AnswerGoal, CountGoal
from shapes.judge import scene_fault
from shapes.layouts import is_related
from shapes.phrases import NO, QUESTIONS, RELATIONS, YES, as_written, at_cell, listed, named, with_article
from shapes.scene_source import SceneSource
from shapes.text_to_image_task import binding, cells, colours, counting
from shapes.tile import scene_codes
from shapes.world import Cell, Piece, Scene

KIND = "match"
_PROMPTS = (colours, counting, binding, cells)
_COMMANDS = ("Draw", "draw", "An image", "an image")  # prompts that do not follow on "Does the image show"


def match(task: str, source: SceneSource) -> Example:
    """Does the image show what the prompt says? Half of the answers are yes; all go on with what it shows."""
    asked = source.rng.choice(_PROMPTS)(source)
    while asked.prompt.startswith(_COMMANDS) or asked.prompt[0].isupper():
        asked = source.rng.choice(_PROMPTS)(source)
    (wanted,) = asked.scenes
    is_match = source.rng.random() < 0.5
    shown = _as_right(source, asked, wanted) if is_match else _near_miss(source, asked, wanted)
    question = source.rng.choice(QUESTIONS[KIND]).format(one=asked.prompt.removesuffix("."))
    answer, said = YES if is_match else NO, _description(shown)
    return Example(
        task=task,
        kind=KIND,
        system=UNDERSTANDING_SYSTEM,
        prompt=as_written(source.rng, question),
        inputs=(scene_codes(shown),),
        answer=f"{answer}, {said}",
        goal=AnswerGoal(answer, said),
        scenes=(shown, wanted),
        key=asked.key,
    )


def _description(scene: Scene) -> str:
    """What the image shows, in reading order, and how two pieces lie if they are in one row or column."""
    named_pieces = [at_cell(with_article(named(piece)), cell) for cell, piece in scene.placed]
    if len(scene.placed) != 2:
        return f"{listed(named_pieces)}, {scene.style}"
    (first, _), (second, _) = scene.placed
    related = [name for name in RELATIONS if is_related(first, name, second)]
    return f"{named_pieces[0]} {related[0] if related else 'and'} {named_pieces[1]}, {scene.style}"


def _as_right(source: SceneSource, asked: Example, wanted: Scene) -> Scene:
    """The scene as it would be drawn, or now and then elsewhere on the board where the prompt leaves that open."""
    if not isinstance(asked.goal, CountGoal) or source.rng.random() < 0.7:
        return wanted
    return source.scene_of(wanted.board, wanted.style, [piece for _, piece in wanted.placed])


def _near_miss(source: SceneSource, asked: Example, wanted: Scene) -> Scene:
    while True:
        shown = source.rng.choice(_CHANGES)(source, wanted)
        if shown.placed and scene_fault(asked.goal, shown) is not None:
            return shown


def _changed_piece(source: SceneSource, scene: Scene, change: Callable[[Piece], Piece]) -> Scene:
    cell, piece = source.rng.choice(scene.placed)
    return scene.with_piece(cell, change(piece))


def _recoloured(source: SceneSource, scene: Scene) -> Scene:
    return _changed_piece(source, scene, source.recoloured)


def _reshaped(source: SceneSource, scene: Scene) -> Scene:
    return _changed_piece(source, scene, source.reshaped)


def _without(source: SceneSource, scene: Scene) -> Scene:
    cell, _ = source.rng.choice(scene.placed)
    return _without_cell(scene, cell)


def _doubled(source: SceneSource, scene: Scene) -> Scene:
    _, piece = source.rng.choice(scene.placed)
    return scene.with_piece(source.rng.choice(scene.empty_cells), piece)


def _moved(source: SceneSource, scene: Scene) -> Scene:
    cell, piece = source.rng.choice(scene.placed)
    return _without_cell(scene, cell).with_piece(source.rng.choice(scene.empty_cells), piece)


def _without_cell(scene: Scene, cell: Cell) -> Scene:
    return Scene.of(scene.board, scene.style, {where: piece for where, piece in scene.placed if where != cell})


def _other_background(source: SceneSource, scene: Scene) -> Scene:
    return Scene.of(scene.board, source.style(scene.style), scene.pieces)


def _exchanged(source: SceneSource, scene: Scene) -> Scene:
    """Two pieces in each other's place, or with each other's colour."""
    if len(scene.placed) < 2:
        return _recoloured(source, scene)
    (cell, piece), (other_cell, other) = source.rng.sample(scene.placed, 2)
    if source.rng.random() < 0.5:
        return scene.with_piece(cell, other).with_piece(other_cell, piece)
    swapped = Piece(other.colour, piece.shape), Piece(piece.colour, other.shape)
    if not all(source.may_show(each) for each in swapped):
        return scene
    return scene.with_piece(cell, swapped[0]).with_piece(other_cell, swapped[1])


_CHANGES = (_recoloured, _reshaped, _without, _doubled, _moved, _other_background, _exchanged, _exchanged)
