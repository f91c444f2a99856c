"""A user's own functions inside a run: rows before the engine, results after it. Called beside the engine's thread.

What they raise or reject is the row's failure, of stage ``hook``, and names the function. Nothing of a finished row is
stored before its hooks have seen it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import pyarrow as pa
from PIL import Image

from manifests.cells import short_repr
from manifests.columns import COLUMNS
from manifests.errors import ManifestRowError, RowFailure
from manifests.files.plan import Segment
from manifests.row.images import ImageSource
from manifests.row.parse import Row, cells_of_rows, id_of, parse_row, parse_rows
from manifests.row.settings import RowDefaults
from pipeline.errors import RunFailed
from pipeline.protocol.settings import HookSettings
from pipeline.rows.failure import row_failure
from pipeline.rows.hooks import HookFailed, HookRejected, call_hook, load_hook
from pipeline.storage.errors import StoreError
from pipeline.storage.uri import folder_of


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row whose cells hooks are going to see; ``id`` is what it is known by and stays."""

    index: int
    id: str
    cells: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The bytes of an image file and the ending that its name should have, with the dot."""

    data: bytes
    suffix: str


class MadeRow:
    """One finished row; hooks may change ``cells["text"]`` and ``pixels``.

    Args:
        cells: The row's columns: those of the manifest, and over them what was made and from what.
        pixels: The row's own image, decoded; None for texts and codes.
        read_input: The image that a text is about, decoded; asked once, if a hook looks at it.
        encode: The file of an image, as the run stores it.
    """

    def __init__(
        self,
        cells: dict[str, Any],
        pixels: Image.Image | None,
        read_input: Callable[[], Image.Image | None],
        encode: Callable[[Image.Image], ImageFile],
    ) -> None:
        self.cells = cells
        self.made_pixels = pixels
        self._read_input = read_input
        self._encode = encode

    @property
    def pixels(self) -> Image.Image | None:
        """The row's image, or the input image of a text; None where there is none."""
        return self._input if self.made_pixels is None else self.made_pixels

    @pixels.setter
    def pixels(self, image: Image.Image) -> None:
        if not isinstance(image, Image.Image):
            raise TypeError(f"pixels must be an image of Pillow, got {type(image).__name__}")
        if self.made_pixels is None:
            raise ValueError("the row has made no image, so there is none to change")
        self.made_pixels = image

    @property
    def image(self) -> ImageFile | None:
        """``pixels`` as a file."""
        pixels = self.pixels
        return None if pixels is None else self._encode(pixels)

    @property
    def words(self) -> str:
        """The answer, or the prompt that the image was made from."""
        text = self.cells["text"]
        return str(self.cells["prompt"] if text is None else text)

    @cached_property
    def _input(self) -> Image.Image | None:
        return self._read_input()


Scores = tuple[float | None, ...]
"""One for each of ``HookSettings.scores``, in their order."""


class RowHooks:
    """The hooks of one worker. Several threads call them at once."""

    def __init__(self, settings: HookSettings, defaults: RowDefaults) -> None:
        loaded = {name: load_hook(name) for name in dict.fromkeys(settings.names)}
        self._rows = [(name, loaded[name]) for name in settings.rows]
        self._results = [(name, loaded[name]) for name in settings.results]
        self._scores = [(score, name, loaded[name]) for score, name in settings.scores.items()]
        self._min_scores = settings.min_scores
        self._defaults = defaults

    @property
    def look_at_results(self) -> bool:
        """Whether any hook is called after the engine."""
        return bool(self._results or self._scores)

    def rows(self, table: pa.Table, first_index: int) -> Iterator[Row | RowFailure | RawRow]:
        """The rows of a segment in order: parsed, or raw if hooks look at them first."""
        if not self._rows:
            yield from parse_rows(table, first_index, self._defaults)
            return
        for index, cells in enumerate(cells_of_rows(table), first_index):
            try:
                row_id = id_of(cells)
            except ManifestRowError:
                yield from parse_rows(table.slice(index - first_index, 1), index, self._defaults)
            else:
                yield RawRow(index, row_id, {**cells, "id": row_id})

    def before(self, raw: RawRow) -> Row | RowFailure:
        """What the hooks make of a row, parsed; or why it is not run."""
        cells = raw.cells
        try:
            for name, hook in self._rows:
                changed = call_hook(name, hook, dict(cells))
                cells = {**_kept(name, changed, dict), "id": changed.get("id")}
                _check_cells(name, raw, cells)
            return parse_row(cells, raw.index, self._defaults)
        except (HookFailed, HookRejected) as error:
            return row_failure(raw, "hook", error)
        except ManifestRowError as error:
            message = f"{error} (after {', '.join(name for name, _ in self._rows)})"
            return RowFailure(raw.index, raw.id, "manifest", type(error).__name__, message)

    def after(self, row: Row, made: MadeRow) -> Scores | RowFailure:
        """Let the hooks change a finished row in place, and score it; or why it is not wanted.

        Raises:
            RunFailed: The input image cannot be read for reasons that are not the row's.
        """
        try:
            for name, hook in self._results:
                before = dict(made.cells)
                _kept(name, call_hook(name, hook, made), MadeRow)
                _check_made(name, before, made.cells)
            return tuple(self._score(made, *each) for each in self._scores)
        except (HookFailed, HookRejected) as error:
            if isinstance(error.__cause__, RunFailed):
                raise error.__cause__ from error  # met while the hook looked at the input image
            if isinstance(error.__cause__, StoreError):
                return row_failure(row, "fetch", error.__cause__)
            return row_failure(row, "hook", error)

    def _score(self, made: MadeRow, score: str, name: str, hook: Any) -> float | None:
        value = call_hook(name, hook, made)
        if value is None:
            return None
        if isinstance(value, bool) or not hasattr(value, "__float__") or not math.isfinite(value):
            raise HookFailed(f"hook {name!r} must return a finite number or None, got {short_repr(value)}")
        least = self._min_scores.get(score)
        if least is not None and float(value) < least:
            raise HookRejected(f"score {score} is {float(value):.6g}, the least is {least:g}")
        return float(value)


def _kept(name: str, returned: Any, kind: type) -> Any:
    """What a hook gave back, if it wants the row."""
    if returned is None or isinstance(returned, str):
        raise HookRejected(f"hook {name!r} rejected it" + (f": {returned}" if returned else ""))
    if not isinstance(returned, kind):
        wanted = "a dict" if kind is dict else "the row"
        raise HookFailed(
            f"hook {name!r} must return {wanted}, None, or a reason to reject it, got {type(returned).__name__}"
        )
    return returned


def _check_cells(name: str, raw: RawRow, cells: dict[str, Any]) -> None:
    where = f"hook {name!r}"
    if cells["id"] is None:
        cells["id"] = raw.id
    if cells["id"] != raw.id:
        raise HookFailed(f"{where} must leave id as it is, {raw.id!r}: the row is known by it; got {cells['id']!r}")
    for column, value in cells.items():
        if column not in COLUMNS and column not in raw.cells:
            raise HookFailed(f"{where} added the column {short_repr(column)}, which no task knows")
        if column not in COLUMNS and value is not raw.cells[column]:
            raise HookFailed(f"{where} changed {column!r}, which reaches the output as the manifest has it")


def _check_made(name: str, before: dict[str, Any], cells: dict[str, Any]) -> None:
    where = f"hook {name!r}"
    for column in before.keys() | cells.keys():
        if column != "text" and (column not in before or cells.get(column) is not before[column]):
            raise HookFailed(f"{where} changed {column!r}: of a finished row only text and pixels may be changed")
    if type(cells.get("text")) is not type(before["text"]):
        kind = type(before["text"]).__name__
        raise HookFailed(f"{where} must leave text what it is, {kind}; got {short_repr(cells.get('text'))}")


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
            columns: Those of the output, over the manifest's own cells.
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
