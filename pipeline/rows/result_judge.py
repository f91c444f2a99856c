"""Shows finished rows to the hooks of a run, before anything of them is stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from PIL import Image

from manifests.errors import RowFailure
from manifests.files.plan import Segment
from manifests.row.images import ImageSource
from manifests.row.parse import Row, cells_of_rows
from pipeline.rows.made_row import ImageFile, MadeRow
from pipeline.rows.row_hooks import RowHooks, Scores
from pipeline.storage.uri import folder_of


class SegmentRows(Protocol):
    """A segment and its rows as the manifest has them."""

    @property
    def segment(self) -> Segment:
        """Which rows these are."""

    @property
    def rows(self) -> pa.Table:
        """Every column of them."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What hooks have left of a finished row, and what they think of it."""

    text: str | None
    pixels: Image.Image | None
    scores: Scores


class ResultJudge:
    """Asks a run's hooks about results. Threads may share it.

    Args:
        hooks: Whom to ask.
        read_input: Reads an image that the manifest in a folder names.
        encode: The file of an image, as the run stores it.
    """

    def __init__(
        self,
        hooks: RowHooks,
        read_input: Callable[[ImageSource, str], Image.Image],
        encode: Callable[[Image.Image], ImageFile],
    ) -> None:
        self._hooks = hooks
        self._read_input = read_input
        self._encode = encode

    def judge(
        self, row: Row, at: SegmentRows, columns: dict[str, Any], text: str | None, pixels: Image.Image | None
    ) -> Judged | RowFailure:
        """What is to be stored of a row; or why nothing is.

        Args:
            row: As it was run.
            at: Where the manifest has it.
            columns: What the output says of it, over the manifest's own cells.
            text: Its answer.
            pixels: Its own image.

        Raises:
            RunFailed: As ``RowHooks.after``.
        """
        if not self._hooks.look_at_results:
            return Judged(text, pixels, ())
        (cells,) = cells_of_rows(at.rows.slice(row.index - at.segment.first_row, 1))
        made = MadeRow(
            {**cells, **columns, "text": text}, pixels, lambda: self._input_of(row, at.segment), self._encode
        )
        scores = self._hooks.after(row, made)
        if isinstance(scores, RowFailure):
            return scores
        return Judged(made.cells["text"], made.made_pixels, scores)

    def _input_of(self, row: Row, segment: Segment) -> Image.Image | None:
        return self._read_input(row.inputs[0], folder_of(segment.file_uri)) if row.inputs else None
