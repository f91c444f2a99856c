"""Finished rows of a segment that is still in work, kept on the store so that a crash does not cost them.

A partial segment is no part: no reader looks at it, and only whoever opens the segment next takes rows from it, each
one checked first. So it needs no fence and no put-if-absent: one that is missing, damaged, late or of other settings
costs time.
"""

import hashlib
import io
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.files.parquet import ParquetReader
from pipeline.output.parts import CommittedSegments, PartName
from pipeline.output.results import DONE_SCHEMA, AnswerDone, RowSuccess, StoredImage
from pipeline.storage.base import Store
from pipeline.storage.errors import AccessDenied, ObjectNotFound, StoreError
from pipeline.storage.retry import RetryPolicy

PARTIALS_PREFIX = "_drafts/"
_SCHEMA = DONE_SCHEMA.append(pa.field("scores", pa.list_(pa.float64()), nullable=False)).append(
    pa.field("fingerprint", pa.string(), nullable=False)
)
_FORMAT = {b"dimoo.draft": b"1"}
_BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class PartialRow:
    """A finished row and what it was made from: equal fingerprints stand for equal settings and an equal row."""

    done: RowSuccess
    fingerprint: str


def row_fingerprint(settings_digest: str, row: int, rows: pa.Table, offset: int) -> str:
    """32 hexadecimal digits of the settings that decide results, a row's number and its every cell in the manifest.

    Args:
        settings_digest: Of everything that decides results, the manifest's own fingerprint and the model included.
        row: Its number in the whole manifest.
        rows: Of a segment, as read from the manifest.
        offset: Which of them.
    """
    record = repr(rows.slice(offset, 1).to_pylist()[0])
    return hashlib.blake2b(f"{settings_digest} {row} {record}".encode(), digest_size=16).hexdigest()


class PartialSegments:
    """The partial segments of one run, as one worker writes and reads them. Threads may share it."""

    def __init__(self, store: Store, retry_policy: RetryPolicy) -> None:
        self._store = store
        self._retry_policy = retry_policy

    def keep(self, part: PartName, rows: Sequence[PartialRow]) -> str:
        """Put finished rows of a part that is not complete; they survive a crash when this returns.

        Returns:
            The partial segment's key, unique to this call.
        """
        records = [asdict(row.done) | {"fingerprint": row.fingerprint} for row in rows]
        table = pa.Table.from_pylist(records, schema=_SCHEMA.with_metadata(_FORMAT))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        key = f"{folder_of_partials(part)}{uuid.uuid4().hex}.parquet"
        self._retry_policy.retry(lambda: self._store.put(key, buffer.getvalue()))
        return key

    def of(self, part: PartName) -> tuple[dict[str, RowSuccess], list[str]]:
        """Rows that anybody has finished of a part, by their fingerprint, and the keys of their partial segments.

        What cannot be read as a partial segment has no rows: they are made again. Images are not looked at here.
        """
        keys = self._retry_policy.retry(lambda: list(self._store.list(folder_of_partials(part))))
        rows = (row for key in keys for row in self._retry_policy.retry(partial(self._read, key)))
        return {row.fingerprint: row.done for row in rows}, keys

    def has_images(self, done: RowSuccess) -> bool:
        """Whether every image of a row is there, byte for byte as the row records."""
        for image in done.outputs:
            try:
                data = self._retry_policy.retry(partial(self._store.get, image.output))
            except ObjectNotFound:
                return False
            if (len(data), hashlib.sha256(data).hexdigest()) != (image.bytes, image.sha256):
                return False
        return True

    def remove(self, keys: Sequence[str]) -> None:
        """Forget partial segments of a part that is committed."""
        with suppress(AccessDenied):  # where nothing may be deleted they stay, and are no use to anybody
            for key in keys:
                self._retry_policy.retry(partial(self._store.delete, key))

    def _read(self, key: str) -> list[PartialRow]:
        try:
            with self._store.open(key) as file:
                parquet = ParquetReader(file)
                is_partial = parquet.key_values.get(b"dimoo.draft") == b"1" and parquet.schema.names == _SCHEMA.names
                return [_partial_row(record) for record in parquet.rows(_BATCH_ROWS)] if is_partial else []
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, StoreError) and not isinstance(error, ObjectNotFound):
                raise
            return []


def folder_of_partials(part: PartName) -> str:
    """Where partial segments of a part are."""
    return f"{PARTIALS_PREFIX}{part}/"


def names_with_partials(store: Store, committed: CommittedSegments) -> set[str]:
    """Names of segments whose next part has partial segments; those of committed parts are removed on the way.

    There are as many of them as segments were in work when runs broke off.
    """
    names: set[str] = set()
    for key in store.list(PARTIALS_PREFIX):
        part = PartName.parse(key.removeprefix(PARTIALS_PREFIX).partition("/")[0], "", "")
        if part is None:
            continue
        last = committed.last_part(part.segment).retry if part.segment in committed else -1
        if part.retry > last:
            names.add(part.segment)
        else:
            with suppress(AccessDenied):
                store.delete(key)
    return names


def _partial_row(record: Mapping[str, Any]) -> PartialRow:
    cells = dict(record)
    fingerprint = cells.pop("fingerprint")
    codes, answers = cells["vq_codes"], cells["answers"]
    cells["vq_codes"] = None if codes is None else np.array(codes, dtype=np.uint16)
    cells["answers"] = None if answers is None else tuple(AnswerDone(**answer) for answer in answers)
    cells["scores"] = tuple(cells["scores"])
    cells["outputs"] = tuple(StoredImage(**image) for image in cells["outputs"])
    return PartialRow(RowSuccess(**cells), fingerprint)
