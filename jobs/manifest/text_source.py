"""Records from text files: CSV and TSV, JSON lines, and lists of prompts."""

import csv
import json
from collections.abc import Iterator
from typing import Any

from jobs.manifest.record import OpenFile, Record, open_text
from jobs.manifest.stored_cell import cell_from_text
from manifests.errors import ManifestError


def delimiter_hint(name: str) -> str:
    """What to do about a column's name that holds several, parted by another sign than the reader's; else empty."""
    if "\t" in name:
        return "tabs part the columns, so give the file a name that ends with .tsv"
    if ";" in name or "|" in name:
        sign = "semicolons" if ";" in name else "bars"
        return f"{sign} part the columns, so save the table with commas, or with tabs as .tsv"
    return "commas part the columns, so give the file a name that ends with .csv" if "," in name else ""


def read_csv(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """Rows of a table with a header; an empty cell is null. A name that ends with ``.tsv`` means tabs.

    Raises:
        ManifestError: The table has no header, a row is longer than it, or a quote is left open.
    """
    delimiter = "\t" if uri.lower().endswith(".tsv") else ","
    with open_text(uri, open_file) as text:
        reader = csv.DictReader(text, delimiter=delimiter, strict=True)
        try:
            names = reader.fieldnames
            if not names or len(set(names)) < len(names):
                raise ManifestError(f"{uri}: the first line must name the columns, each once, got {names}")
            for row in reader:
                where = f"{uri}, line {reader.line_num}"
                if None in row:
                    hints = [f"; {name!r} there: {mended}" for name in names if (mended := delimiter_hint(name))]
                    raise ManifestError(f"{where}: there are more cells than columns in the header{''.join(hints[:1])}")
                cells = {name: cell_from_text(name, cell) for name, cell in row.items() if cell}
                yield Record({name: cells.get(name) for name in names}, where, uri)
        except csv.Error as error:
            raise ManifestError(f"{uri}, line {reader.line_num}: {error}") from error


def read_json_lines(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """One JSON object a line.

    Raises:
        ManifestError: A line holds something else.
    """
    for where, _, cells in json_objects(uri, open_file):
        yield Record(cells, where, uri)


def json_objects(uri: str, open_file: OpenFile) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where each object stands, its line as it is, and the object; blank lines are left out.

    Raises:
        ManifestError: A line holds something else.
    """
    with open_text(uri, open_file) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            where = f"{uri}, line {number}"
            try:
                value = json.loads(line)
            except ValueError as error:
                raise ManifestError(f"{where}: no valid JSON: {error}") from error
            if not isinstance(value, dict):
                raise ManifestError(f"{where}: each line must hold a JSON object, got {type(value).__name__}")
            yield where, line.strip(), value


def read_prompts(uri: str, open_file: OpenFile) -> Iterator[Record]:
    """One prompt a line; blank lines are left out."""
    with open_text(uri, open_file) as text:
        for number, line in enumerate(text, start=1):
            if prompt := line.strip():
                yield Record({"prompt": prompt}, f"{uri}, line {number}", uri)
