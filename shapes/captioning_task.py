"""Captioning examples: an image, and its description in words."""

from collections.abc import Callable

from dimoo_core.request.templates import UNDERSTANDING_SYSTEM
from shapes.example import Example
from shapes.goal import CaptionGoal
from shapes.phrases import CAPTION, CAPTION_REQUESTS, as_written, counted_list, named, placed_list
from shapes.scene_source import SceneSource
from shapes.split import scene_key
from shapes.tile import scene_codes
from shapes.world import Scene

TASK = "captioning"


def short_caption(scene: Scene) -> str:
    """``two red circles and a blue star on a night background``, in order of first appearance."""
    counts = {named(piece): number for piece, number in scene.counts.items()}
    return CAPTION.format(pieces=counted_list(counts), style=scene.style)


def detailed_caption(scene: Scene) -> str:
    """``a red circle at a1 and a blue star at b3 on a night background``, in reading order."""
    return CAPTION.format(pieces=placed_list(scene.placed), style=scene.style)


def short(source: SceneSource) -> Example:
    """Pieces, counts and background."""
    scene = source.scene()
    return _example(source, "short", scene, short_caption(scene))


def detailed(source: SceneSource) -> Example:
    """Every piece with its cell."""
    scene = source.scene()
    return _example(source, "detailed", scene, detailed_caption(scene))


def _example(source: SceneSource, kind: str, scene: Scene, caption: str) -> Example:
    return Example(
        task=TASK,
        kind=kind,
        system=UNDERSTANDING_SYSTEM,
        prompt=as_written(source.rng, source.rng.choice(CAPTION_REQUESTS[kind])),
        inputs=(scene_codes(scene),),
        answer=caption,
        goal=CaptionGoal(scene, is_detailed=kind == "detailed"),
        scenes=(scene,),
        key=scene_key(scene),
    )


KINDS: dict[str, Callable[[SceneSource], Example]] = {"short": short, "detailed": detailed}
