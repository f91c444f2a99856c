"""Text-to-image examples: what a prompt describes, with cells, with relations, or with counts alone."""

from collections import Counter
from collections.abc import Callable, Mapping

from dimoo_core.request.templates import TEXT_TO_IMAGE_SYSTEM
from shapes.example import Example
from shapes.goal import CountGoal, Goal, RelationGoal, SceneGoal
from shapes.layouts import canonical_cells, related_cells
from shapes.phrases import CONVERSE, RELATIONS, counted_list, named, placed_list, prompt, with_article
from shapes.scene_source import SceneSource
from shapes.split import HELD_OUT_RELATION, scene_key
from shapes.tile import scene_codes
from shapes.world import COLOURS, DEFAULT_STYLE, SHAPES, Board, Piece, Scene

TASK = "text_to_image"


def placed_prompt(source: SceneSource, scene: Scene) -> str:
    """A prompt that names every piece with its cell, in reading order or in any."""
    placed = list(scene.placed)
    if source.rng.random() < 0.5:
        source.rng.shuffle(placed)
    has_articles = source.rng.random() < 0.7
    return prompt(source.rng, placed_list(placed, has_articles=has_articles), prompt_style(source, scene.style))


def prompt_style(source: SceneSource, style: str) -> str | None:
    """The background to name; half of the prompts on the default one name none."""
    return None if style == DEFAULT_STYLE and source.rng.random() < 0.5 else style


def cells(source: SceneSource) -> Example:
    """Every piece at a named cell."""
    scene = source.scene()
    return _example("cells", placed_prompt(source, scene), scene, SceneGoal(scene), scene_key(scene))


def single_object(source: SceneSource) -> Example:
    """``a star``, of any colour."""
    return _colourless(source, "single object", [source.rng.choice(SHAPES)])


def two_objects(source: SceneSource) -> Example:
    """``a star and a heart``, of any colours."""
    return _colourless(source, "two objects", source.rng.sample(SHAPES, 2))


def colours(source: SceneSource) -> Example:
    """``a red star``."""
    return _counted(source, "colours", [source.piece()])


def binding(source: SceneSource) -> Example:
    """``a red star and a blue heart``: which colour belongs to which shape."""
    first = source.piece()
    second = source.piece()
    while second.shape == first.shape or second.colour == first.colour:
        second = source.piece()
    return _counted(source, "binding", [first, second])


def counting(source: SceneSource) -> Example:
    """``three red stars``, ``two red stars and a blue heart``."""
    most = max(2, source.options.max_pieces)
    first = source.piece()
    number = source.rng.randint(2, most)
    others = source.rng.randint(0, most - number)
    second = source.piece(unlike=[first])
    pieces = [first] * number, [second] * others
    order = pieces if source.rng.random() < 0.5 else pieces[::-1]
    return _counted(source, "counting", [*order[0], *order[1]])


def position(source: SceneSource) -> Example:
    """``a red star left of a blue heart``."""
    first, relation, second = related_pieces(source)
    board, style = source.board(), source.style()
    first_cell, second_cell = related_cells(board, relation)
    scene = Scene.of(board, style, {first_cell: first, second_cell: second})
    wording = source.rng.choice(RELATIONS[relation])
    pieces = f"{with_article(named(first))} {wording} {with_article(named(second))}"
    goal = RelationGoal(board, style, first, relation, second)
    text = prompt(source.rng, pieces, prompt_style(source, style))
    return _example("position", text, scene, goal, _prompt_key(board, style, pieces.replace(wording, relation)))


def related_pieces(source: SceneSource) -> tuple[Piece, str, Piece]:
    """Two different pieces and a relation; the held-out relation if that is asked for, and else never."""
    shape, held_out_relation, other_shape = HELD_OUT_RELATION
    if source.options.held_out == "relation":
        colour, other_colour = source.rng.choice(COLOURS), source.rng.choice(COLOURS)
        first, second = Piece(colour, shape), Piece(other_colour, other_shape)
        if not (source.may_show(first) and source.may_show(second)):
            return related_pieces(source)
        if source.rng.random() < 0.5:
            return first, held_out_relation, second
        return second, CONVERSE[held_out_relation], first
    first = source.piece()
    second = source.piece(unlike=[first])
    relation = source.rng.choice(list(RELATIONS))
    while is_held_out_relation(first, relation, second):
        relation = source.rng.choice(list(RELATIONS))
    return first, relation, second


def is_held_out_relation(first: Piece, relation: str, second: Piece) -> bool:
    """Whether training never states this relation of these shapes, in either direction."""
    stated = (first.shape, relation, second.shape)
    return HELD_OUT_RELATION in (stated, (second.shape, CONVERSE[relation], first.shape))


def _colourless(source: SceneSource, kind: str, shapes: list[str]) -> Example:
    pieces = []
    for shape in shapes:
        while not source.may_show(piece := Piece(source.rng.choice(COLOURS), shape)):
            pass
        pieces.append(piece)
    return _unplaced(source, kind, pieces, dict.fromkeys(shapes, 1))


def _counted(source: SceneSource, kind: str, pieces: list[Piece]) -> Example:
    return _unplaced(source, kind, pieces, dict(Counter(named(piece) for piece in pieces)))


def _unplaced(source: SceneSource, kind: str, pieces: list[Piece], counts: Mapping[str, int]) -> Example:
    board, style = source.board(), source.style()
    cells = canonical_cells(board, len(pieces))
    scene = Scene.of(board, style, dict(zip(cells, pieces, strict=True)))
    said = counted_list(counts)
    text = prompt(source.rng, said, prompt_style(source, style))
    return _example(kind, text, scene, CountGoal(board, style, counts), _prompt_key(board, style, said))


def _prompt_key(board: Board, style: str, said: str) -> str:
    return f"{board.rows}x{board.columns}:{style}:{said}"


def _example(kind: str, text: str, scene: Scene, goal: Goal, key: str) -> Example:
    return Example(
        task=TASK,
        kind=kind,
        system=TEXT_TO_IMAGE_SYSTEM,
        prompt=text,
        target_codes=scene_codes(scene),
        goal=goal,
        scenes=(scene,),
        key=key,
    )


KINDS: dict[str, Callable[[SceneSource], Example]] = {
    "single object": single_object,
    "two objects": two_objects,
    "counting": counting,
    "colours": colours,
    "position": position,
    "binding": binding,
    "cells": cells,
}
