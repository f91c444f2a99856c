"""Where an export goes: an empty folder or prefix that is filled once."""

import shutil
from pathlib import Path
from typing import Protocol

from dimoo_core.errors import ConfigError
from jobs.export.finished_row import FinishedRow
from pipeline.object_reader import open_store
from pipeline.uri import parse_uri


class ExportTarget:
    """A folder, locally or on S3, and a local one for what is on its way there.

    Raises:
        ConfigError: Something lies there and is not to be overwritten.
    """

    def __init__(self, uri: str, scratch: Path, *, overwrites: bool) -> None:
        self.store = open_store(uri)
        self.scratch = scratch
        self.num_files = 0
        taken = None if overwrites else next(self.store.list(), None)
        if taken is not None:
            raise ConfigError(f"{self.store.uri_of(taken)} is there already: choose an empty folder, or --overwrite")

    def put(self, key: str, data: bytes) -> None:
        """Write a small file."""
        self.store.put(key, data)
        self.num_files += 1

    def put_file(self, key: str, path: Path) -> None:
        """Move a file there; a local one is not read into memory."""
        location = parse_uri(self.store.uri)
        if location.scheme == "file":
            to = Path(location.path) / key
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, to)
        else:
            self.store.put(key, path.read_bytes())
            path.unlink()
        self.num_files += 1


class Export(Protocol):
    """Takes rows in order and makes something of them."""

    def add(self, row: FinishedRow) -> None:
        """Take a row."""

    def finish(self) -> None:
        """Complete what was made; called once, after the last row."""

    def close(self) -> None:
        """Let go of what is open, finished or not."""
