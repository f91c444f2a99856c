"""What a run has left in its output folder, read as any reader would."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow.parquet as pq

from pipeline.storage.reader import open_store


class RunOutput:
    """The output at a path or URI."""

    def __init__(self, uri: object) -> None:
        self.store = open_store(str(uri))

    def keys(self, prefix: str = "") -> list[str]:
        """What readers may look at; the driver's own book-keeping is left out."""
        return sorted(key for key in self.store.list(prefix) if not key.startswith("_epochs/"))

    def rows(self) -> list[dict[str, Any]]:
        """Finished rows of all parts, as they lie there."""
        return self._read("parts/")

    def failures(self) -> list[dict[str, Any]]:
        return self._read("_failures/")

    def by_id(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.rows()}

    def failed_by_id(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.failures()}

    def results(self) -> dict[str, str]:
        """The text of each finished row, or the digest of its image file."""
        return {row["id"]: self._result(row) for row in self.rows()}

    def success(self) -> dict[str, int] | None:
        return json.loads(self.store.get("_SUCCESS")) if "_SUCCESS" in self.keys("_SUCCESS") else None

    def check_complete(self, ids: Iterable[str]) -> None:
        """Every id is there once: in a part or in the failures, images in place, totals as counted."""
        done, failed = [row["id"] for row in self.rows()], [row["id"] for row in self.failures()]
        assert Counter([*done, *failed]) == Counter(list(ids))
        assert self.success() == {"rows_done": len(done), "rows_failed": len(failed)}
        self.results()

    def _result(self, row: dict[str, Any]) -> str:
        if row["output"] is None:
            assert row["text"] is not None
            return str(row["text"])
        data = self.store.get(row["output"])
        digest = hashlib.sha256(data).hexdigest()
        assert (row["sha256"], row["bytes"]) == (digest, len(data))
        return digest

    def _read(self, prefix: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for key in self.keys(prefix):
            with self.store.open(key) as file:
                rows += pq.read_table(file).to_pylist()
        return rows
