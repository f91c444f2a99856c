"""Exports as tables with the images inside: Parquet as Hugging Face ``datasets`` writes it, and Lance."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dimoo_core.errors import ConfigError
from jobs.export.base import Export, ExportSetup, exported_cells, exported_names
from jobs.export.huggingface import hub_card, hub_features
from jobs.export.rows import FinishedRow
from pipeline.rows.row_hooks import ImageFile
from pipeline.storage.uri import parse_uri

MAX_FILE_BYTES = 256 * 2**20
_BATCH_BYTES = 16 * 2**20
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _table_schema(setup: ExportSetup, image: pa.DataType) -> pa.Schema:
    """Columns of an exported table: images first, then those of the parts that are not images themselves."""
    images = [
        pa.field("image", image),
        *([pa.field("source_image", image)] if setup.with_source else []),
        *([pa.field("source_images", pa.list_(image))] if setup.with_several else []),
    ]
    names = exported_names(setup.schema.names)
    return pa.schema(
        [*images, *(field.with_name(names[field.name]) for field in setup.schema if field.name != "output")]
    )


class ParquetExport:
    """``data/SPLIT-00000.parquet`` and a card, ``README.md``, that maps files to splits."""

    def __init__(self, setup: ExportSetup) -> None:
        self._target = setup.target
        self._facts = setup.facts
        self._digest = hashlib.sha256()
        self._has_inputs = False
        self._num_rows: Counter[str] = Counter()
        schema = _table_schema(setup, _IMAGE)
        metadata = json.dumps({"info": {"features": hub_features(schema)}})
        self._schema = schema.with_metadata({"huggingface": metadata})
        self._writers: dict[str, tuple[str, Path, pq.ParquetWriter]] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._sizes: dict[str, int] = {}
        self._num_files: dict[str, int] = {}

    def add(self, row: FinishedRow) -> None:
        """Add a row to its split."""
        self._rows.setdefault(row.split, []).append(_record(row, self._schema))
        self._num_rows[row.split] += 1
        self._has_inputs |= row.has_inputs
        self._sizes[row.split] = self._sizes.get(row.split, 0) + _size(row)
        if self._sizes[row.split] >= _BATCH_BYTES:
            self._flush(row.split)

    def finish(self) -> None:
        """Put the last files and the card into place."""
        for split in list(self._rows):
            self._flush(split)
        for split in list(self._writers):
            self._close(split)
        card = hub_card(self._facts, self._num_rows, self._digest.hexdigest(), has_inputs=self._has_inputs)
        self._target.put("README.md", card.encode())

    def close(self) -> None:
        """Let go of open files."""
        for _, _, writer in self._writers.values():
            writer.close()

    def _flush(self, split: str) -> None:
        rows, self._rows[split], self._sizes[split] = self._rows[split], [], 0
        if not rows:
            return
        if split not in self._writers:
            number = self._num_files.get(split, 0)
            self._num_files[split] = number + 1
            path = self._target.scratch / f"{split}-{number:05d}.parquet"
            # Small pages: a reader of one column of images then holds few of them.
            writer = pq.ParquetWriter(path, self._schema, write_batch_size=16)
            self._writers[split] = (f"data/{path.name}", path, writer)
        _, path, writer = self._writers[split]
        writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))
        if path.stat().st_size >= MAX_FILE_BYTES:
            self._close(split)

    def _close(self, split: str) -> None:
        key, path, writer = self._writers.pop(split)
        writer.close()
        with path.open("rb") as file:
            self._digest.update(f"{key} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        self._target.put_file(key, path)


class LanceExport(Export):
    """One Lance dataset; images are plain bytes, ``split`` stays a column."""

    def __init__(self, setup: ExportSetup) -> None:
        if not parse_uri(setup.target.store.uri).is_local:
            raise ConfigError("--to lance writes to a local folder, got an s3:// target: export locally and copy it")
        try:
            import lance
        except ImportError as error:
            raise ConfigError("--to lance needs the package pylance: pip install pylance") from error
        self._lance = lance
        self._target = setup.target
        self._schema = _table_schema(setup, pa.binary())
        self._rows: list[dict[str, Any]] = []
        self._size = 0
        self._is_begun = False

    def add(self, row: FinishedRow) -> None:
        """Add a row."""
        record = _record(row, self._schema)
        self._rows.append({name: _bytes(value) for name, value in record.items()})
        self._size += _size(row)
        if self._size >= _BATCH_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what is left."""
        self._flush()

    def _flush(self) -> None:
        rows, self._rows, self._size = self._rows, [], 0
        if rows or not self._is_begun:
            table = pa.Table.from_pylist(rows, schema=self._schema)
            mode = "append" if self._is_begun else "overwrite"
            self._lance.write_dataset(table, f"{self._target.store.uri}/data.lance", mode=mode)
            self._is_begun = True
            self._target.num_files += 1


def _record(row: FinishedRow, schema: pa.Schema) -> dict[str, Any]:
    """The row with its images; names of files are ``ROW.png`` and the like."""
    cells = {**exported_cells(row.cells), "image": _struct(row.name, row.image)}
    cells["source_image"] = _struct(f"{row.name}-source", row.source)
    cells["source_images"] = [
        _struct(f"{row.name}-source-{number}", source) for number, source in enumerate(row.sources)
    ]
    return {name: cells.get(name) for name in schema.names}


def _struct(name: str, image: ImageFile | None) -> dict[str, Any] | None:
    return None if image is None else {"bytes": image.data, "path": name + image.suffix}


def _bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_bytes(each) for each in value]
    return value["bytes"] if isinstance(value, dict) and set(value) == {"bytes", "path"} else value


def _size(row: FinishedRow) -> int:
    return sum(len(image.data) for image in (row.image, row.source, *row.sources) if image is not None) + 1000
