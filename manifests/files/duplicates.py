"""Rows that repeat the explicit id of an earlier row, found in memory that does not grow with the manifest.

Ids are compared by 128-bit hashes: among 10^9 ids the chance that any two different ones collide is below 10^-20.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manifests.errors import ManifestError

Keys: TypeAlias = npt.NDArray[np.void]

KEY = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8")])
MAX_DUPLICATES = 1_000_000
KEYS_IN_MEMORY = 1_000_000  # 24 MB
BUCKET_BITS = 8


def find_duplicate_ids(
    id_batches: Iterable[tuple[int, pa.Array]],
    *,
    spill_dir: str | Path,
    max_duplicates: int = MAX_DUPLICATES,
    keys_in_memory: int = KEYS_IN_MEMORY,
) -> dict[int, int]:
    """Every row whose id an earlier row has, with the first such row: ``{later_row: first_row}``, in row order.

    Null ids are skipped. Manifests with more than ``keys_in_memory`` ids write 24 bytes an id to an unnamed file in
    ``spill_dir``, which the operating system frees even when the process is killed.

    Args:
        id_batches: (number of the first row, ids), such as from ``reader.read_ids``.

    Raises:
        ManifestError: More than ``max_duplicates`` rows repeat an id.
    """
    duplicates: dict[int, int] = {}
    with _Buckets(spill_dir, keys_in_memory) as buckets:
        for first_row, ids in id_batches:
            buckets.add(_keys(first_row, ids))
        for keys in buckets:
            later, first = _repeated(keys)
            if len(duplicates) + len(later) > max_duplicates:
                raise ManifestError(
                    f"more than {max_duplicates} rows repeat the id of an earlier row, such as row {later[0]} that of "
                    f"row {first[0]}: ids must be unique, leave the column out to have them derived from the content"
                )
            duplicates.update(zip(later.tolist(), first.tolist(), strict=True))
    return dict(sorted(duplicates.items()))


def _keys(first_row: int, ids: pa.Array) -> Keys:
    """The hash and the row number of every id that is not null."""
    rows = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
    values = ids.cast(pa.large_binary()).drop_null().to_pylist()
    hashes = b"".join([hashlib.blake2b(value, digest_size=16).digest() for value in values])
    halves = np.frombuffer(hashes, dtype="<u8").reshape(-1, 2)
    keys = np.empty(len(rows), dtype=KEY)
    keys["high"], keys["low"], keys["row"] = halves[:, 0], halves[:, 1], rows + first_row
    return keys


def _repeated(keys: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows whose hash an earlier row has, and for each the first row with that hash."""
    keys = keys[np.lexsort((keys["row"], keys["low"], keys["high"]))]
    is_new = np.ones(len(keys), dtype=bool)
    is_new[1:] = (keys["high"][1:] != keys["high"][:-1]) | (keys["low"][1:] != keys["low"][:-1])
    first_of_group = np.maximum.accumulate(np.where(is_new, np.arange(len(keys)), 0))
    rows = keys["row"]
    return rows[~is_new], rows[first_of_group[~is_new]]


class _Buckets:
    """Keys parted by their first bits, so that equal hashes meet and one bucket fits into memory.

    The file is a row of runs; each run is sorted by bucket, and ``_run_offsets`` is where its buckets begin.
    """

    def __init__(self, spill_dir: str | Path, keys_in_memory: int) -> None:
        self._spill_dir = spill_dir
        self._keys_in_memory = keys_in_memory
        self._pending: list[Keys] = []
        self._num_pending = 0
        self._file: BinaryIO | None = None
        self._run_offsets: list[npt.NDArray[np.int64]] = []

    def __enter__(self) -> "_Buckets":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, keys: Keys) -> None:
        self._pending.append(keys)
        self._num_pending += len(keys)
        if self._num_pending > self._keys_in_memory:
            self._spill()

    def __iter__(self) -> Iterator[Keys]:
        """Each bucket once; only one when nothing was spilled."""
        if self._file is None:
            yield self._take_pending()
            return
        self._spill()
        for bucket in range(2**BUCKET_BITS):
            parts = []
            for offsets in self._run_offsets:
                first, last = int(offsets[bucket]), int(offsets[bucket + 1])
                if first < last:
                    self._file.seek(first * KEY.itemsize)
                    parts.append(np.frombuffer(self._file.read((last - first) * KEY.itemsize), dtype=KEY))
            if parts:
                yield np.concatenate(parts)

    def _spill(self) -> None:
        keys = self._take_pending()
        buckets = (keys["high"] >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
        order = np.argsort(buckets, kind="stable")
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._spill_dir)  # noqa: SIM115 - closed by __exit__
        start = self._run_offsets[-1][-1] if self._run_offsets else 0
        counts = np.bincount(buckets, minlength=2**BUCKET_BITS)
        self._run_offsets.append(start + np.concatenate(([0], np.cumsum(counts))))
        self._file.write(keys[order].tobytes())

    def _take_pending(self) -> Keys:
        keys = np.concatenate(self._pending) if self._pending else np.empty(0, dtype=KEY)
        self._pending, self._num_pending = [], 0
        return keys
