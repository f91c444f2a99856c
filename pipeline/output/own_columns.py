"""What a failed row holds in columns that are not ours, as one text: it has no row in a part for these to pass into."""

import json
from contextlib import suppress

import pyarrow as pa

from manifests.columns import COLUMNS

MAX_CELL_CHARS = 1000
"""Of a cell as JSON; failures lie in the metadata of parts, which every resume reads whole."""


def own_columns(rows: pa.Table, index: int) -> str | None:
    """A JSON object of one row's cells by their columns; None if there is nothing to tell.

    Left out are nulls, bytes, cells of more than ``MAX_CELL_CHARS`` characters, and what JSON cannot hold. Types that
    it does not know, such as dates, become text. URIs of images are not among these columns: they may be signed.
    """
    cells: dict[str, str] = {}
    for name in rows.column_names:
        if name in COLUMNS:
            continue
        with suppress(ValueError, TypeError, OverflowError, pa.ArrowException):  # any type may come, and any value
            value = rows.column(name)[index].as_py()
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
            if value is not None and len(text) <= MAX_CELL_CHARS:
                cells[name] = text
    pairs = (f"{json.dumps(name, ensure_ascii=False)}: {text}" for name, text in cells.items())
    return "{" + ", ".join(pairs) + "}" if cells else None


def _plain(value: object) -> str:
    if isinstance(value, bytes):
        raise TypeError("bytes have no form in JSON")
    return str(value)
