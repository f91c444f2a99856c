"""Exports as WebDataset archives."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from jobs.export.base import ExportSetup, exported_cells, json_line
from jobs.export.rows import FinishedRow

MAX_TAR_ROWS = 10_000
MAX_TAR_BYTES = 2**30


@dataclass(slots=True)
class _Shard:
    key: str
    path: Path
    archive: tarfile.TarFile
    num_rows: int = 0


class TarExport:
    """Archives ``SPLIT-00000.tar`` of samples: the image, ``txt`` with its words, ``json`` with the row's cells.

    A sample's key is the row's number, so an archive's samples are in the order of the rows, and the same rows make the
    same bytes.
    """

    def __init__(self, setup: ExportSetup) -> None:
        self._target = setup.target
        self._open: dict[str, _Shard] = {}
        self._num_shards: dict[str, int] = {}

    def add(self, row: FinishedRow) -> None:
        """Write a sample."""
        shard = self._shard(row.split)
        if row.image is not None:
            _add(shard.archive, row.name + row.image.suffix, row.image.data)
        if row.source is not None:
            _add(shard.archive, f"{row.name}.source{row.source.suffix}", row.source.data)
        for number, source in enumerate(row.sources):
            _add(shard.archive, f"{row.name}.source-{number}{source.suffix}", source.data)
        _add(shard.archive, f"{row.name}.txt", row.words.encode())
        _add(shard.archive, f"{row.name}.json", json_line(exported_cells(row.cells)).encode())
        shard.num_rows += 1
        if shard.num_rows >= MAX_TAR_ROWS or shard.archive.offset >= MAX_TAR_BYTES:
            self._close(row.split)

    def finish(self) -> None:
        """Put the last archives into place."""
        for split in list(self._open):
            self._close(split)

    def close(self) -> None:
        """Let go of open files."""
        for shard in self._open.values():
            shard.archive.close()

    def _shard(self, split: str) -> _Shard:
        if split not in self._open:
            number = self._num_shards.get(split, 0)
            self._num_shards[split] = number + 1
            key = f"{split}-{number:05d}.tar"
            path = self._target.scratch / key
            self._open[split] = _Shard(key, path, tarfile.open(path, "w"))  # noqa: SIM115
        return self._open[split]

    def _close(self, split: str) -> None:
        shard = self._open.pop(split)
        shard.archive.close()
        self._target.put_file(shard.key, shard.path)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
    archive.members.clear()  # type: ignore[attr-defined]  # or they all stay in memory
