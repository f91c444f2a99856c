"""What ``dimoo-batch manifest show`` prints: files, columns, some rows."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.counted import counted
from manifests.columns import COLUMNS
from manifests.files.plan import plan_shards
from manifests.files.reader import SegmentReader, inspect_file
from pipeline.manifest import manifest_file_uris
from pipeline.storage.reader import ObjectReader

_MAX_CELL = 100


def shown_lines(uri: str, *, start: int, num_rows: int, as_json: bool) -> Iterator[str]:
    """Lines about a manifest: for people, or its rows alone as JSON.

    Raises:
        ManifestError: There is no Parquet file, or it cannot be read.
        StoreError: The store cannot be reached.
    """
    objects = ObjectReader()
    inspected = [inspect_file(file_uri, objects.open) for file_uri in manifest_file_uris(uri)]
    files = [file for file, _ in inspected]
    total = sum(file.num_rows for file in files)
    if not as_json:
        num_bytes = sum(file.size_bytes for file in files)
        yield f"{uri}: {counted(total, 'row')} in {counted(len(files), 'file')}, {counted(num_bytes, 'byte')}"
        for field in inspected[0][1]:
            meaning = COLUMNS[field.name].meaning if field.name in COLUMNS else "passes through"
            yield f"  {field.name:<16} {field.type!s:<12} {meaning}"
    plan = plan_shards(files, shard_rows=1024, segment_rows=1024)
    with SegmentReader(objects.open) as reader:
        for segment in plan:
            first = max(start - segment.first_row, 0)
            last = min(start + num_rows - segment.first_row, segment.num_rows)
            if first >= last:
                continue
            for offset, cells in enumerate(reader.read(segment).slice(first, last - first).to_pylist()):
                row = segment.first_row + first + offset
                cells = {name: _plain(value) for name, value in cells.items() if value is not None}
                if as_json:
                    yield json.dumps({"row": row, **cells}, ensure_ascii=False, default=str)
                else:
                    yield f"row {row}"
                    yield from (f"  {name:<16} {_short(value)}" for name, value in cells.items())
    objects.close()


def _plain(value: Any) -> Any:
    """A value without the bytes of images."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _MAX_CELL else f"{text[:_MAX_CELL]}…"
