"""Examples that draw from a reference image: subjects, styles, maps, and maps as control."""

from collections.abc import Callable

from dimoo_core.request.templates import CONTROL_SYSTEM, DENSE_PREDICTION_SYSTEM, STYLE_TRANSFER_SYSTEM, SUBJECT_SYSTEM
from shapes.example import Example
from shapes.goal import MapGoal, SceneGoal
from shapes.phrases import (
    EDGE_REQUEST,
    SEGMENT_REQUEST,
    SUBJECT_PROMPTS,
    at_cell,
    counted_list,
    listed,
    named,
    phrased,
    prompt,
    with_article,
)
from shapes.scene_source import SceneSource
from shapes.split import scene_key
from shapes.text_to_image_task import prompt_style
from shapes.tile import EDGES, SEGMENTS, map_codes, scene_codes
from shapes.world import Board, Scene

SUBJECT, STYLE_TRANSFER, DENSE_PREDICTION, CONTROL = "subject", "style_transfer", "dense_prediction", "control"

_SUBJECT_BOARD, _SUBJECT_CELL = Board(3, 3), (1, 1)
_REQUESTS = {EDGES: EDGE_REQUEST, SEGMENTS: SEGMENT_REQUEST}


def subject_alone(source: SceneSource) -> Example:
    """The object of an image, put at a cell of another scene."""
    return _subject(source, num_others=0)


def subject_with_others(source: SceneSource) -> Example:
    """The object of an image beside others that are described."""
    return _subject(source, num_others=source.rng.randint(1, max(1, source.options.max_pieces - 1)))


def _subject(source: SceneSource, num_others: int) -> Example:
    pieces = source.pieces(1 + num_others)
    target = source.scene_of(source.board(), source.style(), pieces)
    subject = pieces[0]
    cell = source.rng.choice([cell for cell, piece in target.placed if piece == subject])
    words = [at_cell("this object", cell)]
    words += [at_cell(with_article(named(piece)), place) for place, piece in target.placed if place != cell]
    picture = Scene.of(_SUBJECT_BOARD, source.style(), {_SUBJECT_CELL: subject})
    return Example(
        task=SUBJECT,
        kind="with others" if num_others else "alone",
        system=SUBJECT_SYSTEM,
        prompt=phrased(source.rng, SUBJECT_PROMPTS, listed(words), target.style),
        inputs=(scene_codes(picture),),
        target_codes=scene_codes(target),
        goal=SceneGoal(target),
        scenes=(picture, target),
        key=scene_key(target),
    )


def style_transfer(source: SceneSource) -> Example:
    """The first image's pieces as the second image would show them."""
    content = source.scene()
    reference = source.scene(board=content.board, style=source.style(content.style))
    target = content.on(reference.style)
    return Example(
        task=STYLE_TRANSFER,
        kind="style",
        system=STYLE_TRANSFER_SYSTEM,
        prompt=STYLE_TRANSFER_SYSTEM,
        inputs=(scene_codes(content), scene_codes(reference)),
        target_codes=scene_codes(target),
        goal=SceneGoal(target),
        scenes=(content, reference, target),
        key=scene_key(target),
    )


def _prediction(source: SceneSource, family: str) -> Example:
    scene = source.scene()
    return Example(
        task=DENSE_PREDICTION,
        kind=family,
        system=DENSE_PREDICTION_SYSTEM,
        prompt=_REQUESTS[family],
        inputs=(scene_codes(scene),),
        target_codes=map_codes(scene, family),
        goal=MapGoal(scene, family),
        scenes=(scene,),
        key=scene_key(scene),
    )


def _control(source: SceneSource, family: str) -> Example:
    """The map says what is where; the prompt says the colours, so a shape has one colour only."""
    scene = source.scene()
    while len(scene.counts) != len({piece.shape for piece in scene.counts}):
        scene = source.scene()
    counts = {named(piece): number for piece, number in scene.counts.items()}
    return Example(
        task=CONTROL,
        kind=family,
        system=CONTROL_SYSTEM,
        prompt=prompt(source.rng, counted_list(counts), prompt_style(source, scene.style)),
        inputs=(map_codes(scene, family),),
        target_codes=scene_codes(scene),
        goal=SceneGoal(scene),
        scenes=(scene,),
        key=scene_key(scene),
    )


def predict_edges(source: SceneSource) -> Example:
    """From an image to its edge map."""
    return _prediction(source, EDGES)


def predict_segments(source: SceneSource) -> Example:
    """From an image to its segmentation map."""
    return _prediction(source, SEGMENTS)


def control_by_edges(source: SceneSource) -> Example:
    """From an edge map and a prompt to the image."""
    return _control(source, EDGES)


def control_by_segments(source: SceneSource) -> Example:
    """From a segmentation map and a prompt to the image."""
    return _control(source, SEGMENTS)


_Kinds = dict[str, Callable[[SceneSource], Example]]
SUBJECT_KINDS: _Kinds = {"alone": subject_alone, "with others": subject_with_others}
STYLE_TRANSFER_KINDS: _Kinds = {"style": style_transfer}
DENSE_PREDICTION_KINDS: _Kinds = {EDGES: predict_edges, SEGMENTS: predict_segments}
CONTROL_KINDS: _Kinds = {EDGES: control_by_edges, SEGMENTS: control_by_segments}
