"""Editing examples: an image, an instruction, and the image after it."""

from collections.abc import Callable

from dimoo_core.request.templates import IMAGE_EDITING_SYSTEM
from shapes.example import Example
from shapes.goal import SceneGoal
from shapes.phrases import EDITS, as_written, named, with_article
from shapes.scene_source import SceneSource
from shapes.split import scene_key
from shapes.tile import scene_codes
from shapes.world import Cell, Piece, Scene, cell_name

TASK = "editing"


def recolour(source: SceneSource) -> Example:
    """One piece in another colour."""
    before, cell, piece = _chosen(source)
    after = source.recoloured(piece)
    return _example(source, "recolour", before, before.with_piece(cell, after), cell, colour=after.colour)


def reshape(source: SceneSource) -> Example:
    """One piece in another shape."""
    before, cell, piece = _chosen(source)
    after = source.reshaped(piece)
    return _example(source, "reshape", before, before.with_piece(cell, after), cell, shape=after.shape)


def remove(source: SceneSource) -> Example:
    """One piece less."""
    before, cell, _ = _chosen(source)
    return _example(source, "remove", before, before.without(cell), cell)


def add(source: SceneSource) -> Example:
    """One piece more, at a named cell."""
    after, cell, piece = _chosen(source, least=2)
    names = {"piece": with_article(named(piece)), "cell": cell_name(cell)}
    return _example(source, "add", after.without(cell), after, None, **names)


def move(source: SceneSource) -> Example:
    """One piece at another cell."""
    before, cell, piece = _chosen(source)
    goal_cell = source.rng.choice(before.empty_cells)
    after = before.without(cell).with_piece(goal_cell, piece)
    return _example(source, "move", before, after, cell, cell=cell_name(goal_cell))


def background(source: SceneSource) -> Example:
    """The same pieces on another background."""
    before = source.scene()
    style = source.style(before.style)
    return _example(source, "background", before, before.on(style), None, style=style)


def target_name(source: SceneSource, scene: Scene, cell: Cell) -> str:
    """A name that fits the piece at ``cell`` and no other: by shape, colour and shape, or cell."""
    piece = scene.pieces[cell]
    names = [f"the {named(piece)} at {cell_name(cell)}", f"the object at {cell_name(cell)}"]
    if scene.counts[piece] == 1:
        names += [f"the {named(piece)}"] * 3
    if sum(other.shape == piece.shape for _, other in scene.placed) == 1:
        names.append(f"the {piece.shape}")
    return source.rng.choice(names)


def _chosen(source: SceneSource, least: int = 1) -> tuple[Scene, Cell, Piece]:
    scene = source.scene(least=least)
    cell, piece = source.rng.choice(scene.placed)
    return scene, cell, piece


def _example(
    source: SceneSource, kind: str, before: Scene, after: Scene, target_cell: Cell | None, **names: str
) -> Example:
    if target_cell is not None:
        names["target"] = target_name(source, before, target_cell)
    return Example(
        task=TASK,
        kind=kind,
        system=IMAGE_EDITING_SYSTEM,
        prompt=as_written(source.rng, source.rng.choice(EDITS[kind]).format(**names)),
        inputs=(scene_codes(before),),
        target_codes=scene_codes(after),
        goal=SceneGoal(after),
        scenes=(before, after),
        key=scene_key(after),
    )


KINDS: dict[str, Callable[[SceneSource], Example]] = {
    "recolour": recolour,
    "reshape": reshape,
    "remove": remove,
    "add": add,
    "move": move,
    "background": background,
}
