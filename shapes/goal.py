"""What a right output must be, as values: one class for each way of being right."""

from collections.abc import Mapping
from dataclasses import dataclass

from shapes.tile import Codes
from shapes.world import Board, Piece, Scene


@dataclass(frozen=True, slots=True)
class SceneGoal:
    """This very scene: every piece at its cell."""

    scene: Scene


@dataclass(frozen=True, slots=True, eq=False)
class FillGoal:
    """This very scene, in which the cells outside the mask also keep their codes."""

    scene: Scene
    mask: Codes  # 1 where the output is to be filled in, 0 where it is kept


@dataclass(frozen=True, slots=True)
class CountGoal:
    """So many of each name on this background and nothing else, anywhere; a name may be a shape alone."""

    board: Board
    style: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RelationGoal:
    """Two pieces on this background and nothing else, the first in a relation to the second."""

    board: Board
    style: str
    first: Piece
    relation: str
    second: Piece


@dataclass(frozen=True, slots=True)
class MapGoal:
    """The edge or segmentation map of this scene."""

    scene: Scene
    family: str


@dataclass(frozen=True, slots=True)
class CaptionGoal:
    """A description of this scene in any wording: pieces, counts and background; if detailed, each piece's cell."""

    scene: Scene
    is_detailed: bool


@dataclass(frozen=True, slots=True)
class AnswerGoal:
    """This answer in any wording; what may be said in addition, as in ``yes, at b3``, need not be said."""

    answer: str
    evidence: str = ""


Goal = SceneGoal | FillGoal | CountGoal | RelationGoal | MapGoal | CaptionGoal | AnswerGoal
