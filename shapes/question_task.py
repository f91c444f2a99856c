"""Questions about one image or two, with short answers."""

from collections.abc import Callable, Iterable
from functools import partial

from dimoo_core.request.templates import UNDERSTANDING_SYSTEM
from shapes.example import Example
from shapes.goal import AnswerGoal
from shapes.layouts import is_related
from shapes.match_question import KIND, match
from shapes.phrases import (
    CONVERSE,
    FIRST,
    NEITHER,
    NO,
    NOTHING,
    NUMBERS,
    QUESTIONS,
    RELATIONS,
    SECOND,
    YES,
    as_written,
    kind,
    listed,
    named,
    with_article,
)
from shapes.scene_source import SceneSource
from shapes.split import scene_key
from shapes.text_to_image_task import is_held_out_relation
from shapes.tile import scene_codes
from shapes.world import Cell, Piece, Scene, cell_name

TASK = "questions"


def existence(source: SceneSource) -> Example:
    """Is there such a piece? Half of the answers are yes."""
    scene = source.scene()
    is_there = source.rng.random() < 0.5
    piece = source.rng.choice(scene.placed)[1] if is_there else source.piece(unlike=scene.counts)
    cells = [cell for cell, other in scene.placed if other == piece]
    one = with_article(named(piece))
    return _example(source, "existence", (scene,), YES if is_there else NO, said=_places(cells), one=one)


def count(source: SceneSource) -> Example:
    """How many of a colour and shape, of a shape, of a colour, or at all."""
    scene = source.scene()
    colour, shape = _class(source, scene)
    cells = [cell for cell, piece in scene.placed if _is_of(piece, colour, shape)]
    many = f"{kind(colour, shape)}s"
    return _example(source, "count", (scene,), NUMBERS[len(cells)], said=_places(cells), many=many)


def colour(source: SceneSource) -> Example:
    """The colour of the only piece of its shape."""
    scene, piece = _with_single(source, lambda piece: piece.shape)
    return _example(source, "colour", (scene,), piece.colour, target=f"the {piece.shape}")


def content(source: SceneSource) -> Example:
    """What is at a cell; sometimes nothing."""
    scene = source.scene()
    if source.rng.random() < 0.25:
        cell, answer = source.rng.choice(scene.empty_cells), NOTHING
    else:
        cell, piece = source.rng.choice(scene.placed)
        answer = with_article(named(piece))
    return _example(source, "content", (scene,), answer, cell=cell_name(cell))


def place(source: SceneSource) -> Example:
    """The cell of the only such piece."""
    scene, piece = _with_single(source, lambda piece: piece)
    (cell,) = [cell for cell, other in scene.placed if other == piece]
    is_only_shape = sum(other.shape == piece.shape for _, other in scene.placed) == 1
    name = piece.shape if is_only_shape and source.rng.random() < 0.5 else named(piece)
    return _example(source, "place", (scene,), cell_name(cell), target=f"the {name}")


def relation(source: SceneSource) -> Example:
    """Whether one piece is left of, right of, above or below another in its row or column."""
    scene = source.scene(least=2)
    cells = [cell for cell, piece in scene.placed if scene.counts[piece] == 1]
    stated = [
        (first, second, name)
        for first in cells
        for second in cells
        for name in RELATIONS
        if is_related(first, name, second) and not is_held_out_relation(scene.pieces[first], name, scene.pieces[second])
    ]
    if not stated:
        return relation(source)
    first, second, name = source.rng.choice(stated)
    is_so = source.rng.random() < 0.5
    if not is_so:
        name = CONVERSE[name]
        if is_held_out_relation(scene.pieces[first], name, scene.pieces[second]):
            return relation(source)
    names = {
        "target": f"the {named(scene.pieces[first])}",
        "relation": source.rng.choice(RELATIONS[name]),
        "other": f"the {named(scene.pieces[second])}",
    }
    said = f"at {cell_name(first)}, {name if is_so else CONVERSE[name]} {cell_name(second)}"
    return _example(source, "relation", (scene,), YES if is_so else NO, said=said, **names)


def background(source: SceneSource) -> Example:
    """The background's name."""
    scene = source.scene()
    return _example(source, "background", (scene,), scene.style)


def same(source: SceneSource) -> Example:
    """Two images of one piece each: the same, wherever it is? Half of the answers are yes; all say both pieces."""
    board, piece = source.board(), source.piece()
    is_same = source.rng.random() < 0.5
    other = piece if is_same else source.rng.choice((source.recoloured, source.reshaped))(piece)
    first, second = (source.scene_of(board, source.style(), [each]) for each in (piece, other))
    said = ", ".join(with_article(named(each)) for each in (piece, other))
    return _example(source, "same", (first, second), YES if is_same else NO, said=said)


def more(source: SceneSource) -> Example:
    """Two images: which has more of something? The answer says how many each has."""
    first = source.scene()
    second = source.scene(board=first.board)
    chosen = _class(source, source.rng.choice((first, second)))
    numbers = _number_of(first, *chosen), _number_of(second, *chosen)
    answer = NEITHER if numbers[0] == numbers[1] else FIRST if numbers[0] > numbers[1] else SECOND
    many = f"{kind(*chosen)}s"
    said = " and ".join(NUMBERS[number] for number in numbers)
    return _example(source, "more", (first, second), answer, said=said, many=many)


def _class(source: SceneSource, scene: Scene) -> tuple[str | None, str | None]:
    """A colour and a shape, either or both left open; mostly of a piece that is there."""
    piece = source.rng.choice(scene.placed)[1] if source.rng.random() < 0.8 else source.piece()
    return source.rng.choice(((piece.colour, piece.shape), (None, piece.shape), (piece.colour, None), (None, None)))


def _number_of(scene: Scene, colour: str | None, shape: str | None) -> int:
    return sum(_is_of(piece, colour, shape) for _, piece in scene.placed)


def _is_of(piece: Piece, colour: str | None, shape: str | None) -> bool:
    return colour in (None, piece.colour) and shape in (None, piece.shape)


def _with_single(source: SceneSource, feature: Callable[[Piece], object]) -> tuple[Scene, Piece]:
    """A scene and a piece in it that has no equal by ``feature``."""
    while True:
        scene = source.scene()
        features = [feature(piece) for _, piece in scene.placed]
        single = [piece for _, piece in scene.placed if features.count(feature(piece)) == 1]
        if single:
            return scene, source.rng.choice(single)


def _places(cells: Iterable[Cell]) -> str:
    """``at b3 and c1``, nothing if there are none."""
    names = [cell_name(cell) for cell in cells]
    return f"at {listed(names)}" if names else ""


def _example(
    source: SceneSource, question: str, scenes: Iterable[Scene], answer: str, *, said: str = "", **names: str
) -> Example:
    """An example; what is ``said`` after the answer is what it rests on: ``yes, at b3``."""
    scenes = tuple(scenes)
    return Example(
        task=TASK,
        kind=question,
        system=UNDERSTANDING_SYSTEM,
        prompt=as_written(source.rng, source.rng.choice(QUESTIONS[question]).format(**names)),
        inputs=tuple(scene_codes(scene) for scene in scenes),
        answer=f"{answer}, {said}" if said else answer,
        goal=AnswerGoal(answer, said),
        scenes=scenes,
        key=scene_key(scenes[0]),
    )


KINDS: dict[str, Callable[[SceneSource], Example]] = {
    "existence": existence,
    "count": count,
    "colour": colour,
    "content": content,
    "place": place,
    "relation": relation,
    "background": background,
    "same": same,
    "more": more,
    KIND: partial(match, TASK),
}
