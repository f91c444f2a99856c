"""The VQ codes that a row gives in place of an image, as ``tokenize`` writes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dimoo_core.settings import MAX_SIDE_PX, PIXELS_PER_TOKEN
from manifests.cells import numbers_cell, shown, whole_cell
from manifests.errors import ManifestRowError

MAX_SIDE_CODES = MAX_SIDE_PX // PIXELS_PER_TOKEN
MAX_CODE = 2**16 - 1


@dataclass(frozen=True, slots=True)
class CodeGrid:
    """Codes row by row, ``rows * columns`` of them."""

    codes: tuple[int, ...]
    rows: int
    columns: int


def code_grid_cells(record: Mapping[str, Any], task: str) -> CodeGrid:
    """The codes of a row whose task needs them.

    Whether each is in the model's codebook is for the worker to see.

    Raises:
        ManifestRowError: Codes or grid are missing, have the wrong type or range, or do not go together.
    """
    value = record.get("vq_codes")
    grid = numbers_cell("vq_grid", record.get("vq_grid"), ("rows", "columns"))
    for column, given in (("vq_codes", value), ("vq_grid", grid)):
        if given is None:
            raise ManifestRowError(f"{column} is null, task {task!r} needs it: give what task 'tokenize' wrote there")
    assert grid is not None
    if not all(side.is_integer() and 1 <= side <= MAX_SIDE_CODES for side in grid):
        allowed = f"two whole numbers from 1 to {MAX_SIDE_CODES}"
        raise ManifestRowError(f"vq_grid must be {allowed}, got {shown(record['vq_grid'])}: give [rows, columns]")
    rows, columns = (int(side) for side in grid)
    codes = _codes(value)
    if len(codes) != rows * columns:
        fix = f"give one code for each of its {rows * columns} cells"
        raise ManifestRowError(f"vq_codes must fill the vq_grid [{rows}, {columns}], got {len(codes)} codes: {fix}")
    return CodeGrid(codes, rows, columns)


def _codes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ManifestRowError(f"vq_codes must be a list of whole numbers, got {shown(value)}")
    codes = tuple(code if isinstance(code, int) else whole_cell("vq_codes", code) for code in value)
    for index, code in enumerate(codes):
        if code is None or not 0 <= code <= MAX_CODE:
            raise ManifestRowError(f"vq_codes must be from 0 to {MAX_CODE}, got {code} at place {index}")
    return tuple(code for code in codes if code is not None)
