"""The Parquet files of a manifest that is being built: one, or as many as a folder takes, and by split."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dimoo_core.errors import ConfigError
from pipeline.storage.reader import open_store
from pipeline.storage.uri import split_uri

_FILE_BYTES = 256 * 2**20
_MAX_SINGLE_BYTES = 2 * 2**30


class ManifestFiles:
    """Writes tables to ``NAME.parquet``, or to numbered files of a folder; nothing is visible before ``finish``.

    With ``by_split`` rows go to a file, or a row of files, of their own for each value of their column ``split``.
    Files are made in ``folder`` and put into place whole; in memory is one at a time.
    """

    def __init__(self, target: str, folder: Path, *, by_split: bool, overwrites: bool) -> None:
        self._is_single = target.endswith(".parquet")
        root, key = split_uri(target) if self._is_single else (target.rstrip("/") or "/", "rows")
        base, slash, name = key.rpartition("/")
        self._store = open_store(root)
        self._base, self._stem = base + slash, name.removesuffix(".parquet")
        self.folder_uri = f"{self._store.uri}/{base}".rstrip("/")
        self._folder = folder
        self._by_split = by_split
        self._open: dict[str, tuple[Path, pq.ParquetWriter]] = {}
        self._num_files: Counter[str] = Counter()
        self._made: list[tuple[str, Path]] = []
        if not overwrites and (taken := self._taken()) is not None:
            raise ConfigError(f"{self._store.uri_of(taken)} exists already: choose another --to, or give --overwrite")

    def add(self, table: pa.Table) -> None:
        """Write the rows of a table."""
        if not self._by_split:
            self._add("", table)
            return
        for split in pc.unique(table.column("split")).to_pylist():
            self._add(split or "", table.filter(pc.equal(table.column("split"), split)))

    def finish(self) -> tuple[str, ...]:
        """Put every file into place; returns their URIs."""
        self._complete()
        for key, path in self._made:
            self._store.put(key, path.read_bytes())
            path.unlink()
        return tuple(self._store.uri_of(key) for key, _ in self._made)

    def close(self) -> None:
        """Let go of what is open, finished or not."""
        self._complete()
        self._store.close()

    def _taken(self) -> str | None:
        """A file that exists already."""
        if self._is_single:
            key = self._key("", 0)
            return None if self._store.size(key) is None else key
        return next((key for key in self._store.list() if key.endswith(".parquet")), None)

    def _add(self, split: str, table: pa.Table) -> None:
        has_images = _has_bytes(table)
        if split not in self._open:
            path = self._folder / f"{len(self._made)}.parquet"
            self._made.append((self._key(split, self._num_files[split]), path))
            self._num_files[split] += 1
            options: Mapping[str, object] = {"write_batch_size": 16} if has_images else {}
            self._open[split] = path, pq.ParquetWriter(path, table.schema, compression="zstd", **options)
        path, writer = self._open[split]
        writer.write_table(table, row_group_size=1000 if has_images else None)
        size = path.stat().st_size
        if self._is_single and size > _MAX_SINGLE_BYTES:
            raise ConfigError("the manifest is too large for one file: give --to a folder, which takes several")
        if not self._is_single and size > _FILE_BYTES:
            self._open.pop(split)
            writer.close()

    def _key(self, split: str, number: int) -> str:
        if self._is_single:
            return f"{self._base}{self._stem}{'-' + split if split else ''}.parquet"
        return f"{split or self._stem}-{number:05d}.parquet"

    def _complete(self) -> None:
        while self._open:
            _, (_, writer) = self._open.popitem()
            writer.close()


def _has_bytes(table: pa.Table) -> bool:
    """Whether images are in it."""
    return any(pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0 for field in table.schema)
