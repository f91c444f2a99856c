"""How the rows of a manifest are cut: files into shards, shards into segments (leased and committed).

The cut depends on the files and the two sizes only, so every process that plans the same manifest
numbers its rows alike.
"""

import hashlib
import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from dimoo_core.errors import ConfigError
from manifests.errors import ManifestError

MAX_SHARDS = 10**7
MAX_SEGMENTS_PER_SHARD = 10**5
_SEGMENT_NAME = re.compile(r"(?P<shard>[0-9]{7})-(?P<index>[0-9]{5})")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One Parquet file; the footer holds offsets and statistics, so other content rarely keeps ``footer_digest``."""

    uri: str
    size_bytes: int
    num_rows: int
    footer_digest: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows of one shard that are committed together; ``index`` counts inside the shard.

    ``first_row`` counts over the whole manifest, ``file_row`` inside the file.
    """

    shard: int
    index: int
    file_uri: str
    first_row: int
    file_row: int
    num_rows: int

    @property
    def name(self) -> str:
        """Unique in the manifest and sorts like the rows: ``0000003-00007``."""
        return f"{self.shard:07d}-{self.index:05d}"


class ShardPlan:
    """Every shard and segment of a manifest, computed when asked for; memory grows with the number of files only.

    Build it with ``plan_shards``. Iterating gives the segments in row order. Immutable.
    """

    def __init__(
        self, files: Sequence[ManifestFile], *, segments_per_shard: int, segment_rows: int, num_rows: int
    ) -> None:
        self.num_rows = num_rows
        self.segment_rows = segment_rows
        self.shard_rows = segments_per_shard * segment_rows
        self._segments_per_shard = segments_per_shard
        self._uris = [file.uri for file in files]
        self._first_rows = [min(row, num_rows) for row in _starts(file.num_rows for file in files)]
        self._first_shards = self._starts_of_parts(self.shard_rows)
        self._first_segments = self._starts_of_parts(segment_rows)

    @property
    def num_shards(self) -> int:
        """Shards of all files together."""
        return self._first_shards[-1]

    @property
    def num_segments(self) -> int:
        """Segments of all shards together; also ``len()`` of the plan."""
        return self._first_segments[-1]

    def __len__(self) -> int:
        return self.num_segments

    def __iter__(self) -> Iterator[Segment]:
        return map(self.segment, range(self.num_segments))

    def segment(self, number: int) -> Segment:
        """The segment at this place in row order, counted over the whole manifest."""
        file, index_in_file = _locate(self._first_segments, number)
        shard_in_file, index = divmod(index_in_file, self._segments_per_shard)
        shard = self._first_shards[file] + shard_in_file
        file_row = index_in_file * self.segment_rows
        first_row = self._first_rows[file] + file_row
        num_rows = min(self.segment_rows, self._first_rows[file + 1] - first_row)
        return Segment(shard, index, self._uris[file], first_row, file_row, num_rows)

    def number_of(self, segment_name: str) -> int | None:
        """The place in row order of the segment with this name; None if the plan has none of that name."""
        match = _SEGMENT_NAME.fullmatch(segment_name)
        if match is None or not int(match["shard"]) < self.num_shards:
            return None
        file, shard_in_file = _locate(self._first_shards, int(match["shard"]))
        index_in_file = shard_in_file * self._segments_per_shard + int(match["index"])
        number = self._first_segments[file] + index_in_file
        is_of_shard = int(match["index"]) < self._segments_per_shard and number < self._first_segments[file + 1]
        return number if is_of_shard else None

    def _starts_of_parts(self, part_rows: int) -> list[int]:
        starts = self._first_rows
        return _starts(-(-(end - start) // part_rows) for start, end in pairwise(starts))


def plan_shards(
    files: Iterable[ManifestFile], *, shard_rows: int, segment_rows: int, limit: int | None = None
) -> ShardPlan:
    """Cut the files, in the given order, into shards of whole segments; no shard spans two files.

    Args:
        shard_rows: Rounded up to a multiple of ``segment_rows``.
        limit: Plan the first ``limit`` rows only.

    Raises:
        ConfigError: A size is not positive.
        ManifestError: There are more shards than names for them.
    """
    for name, value, least in (("shard_rows", shard_rows, 1), ("segment_rows", segment_rows, 1), ("limit", limit, 0)):
        if value is not None and value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    files = tuple(files)
    num_rows = sum(file.num_rows for file in files)
    plan = ShardPlan(
        files,
        segments_per_shard=-(-shard_rows // segment_rows),
        segment_rows=segment_rows,
        num_rows=num_rows if limit is None else min(limit, num_rows),
    )
    if plan.num_shards > MAX_SHARDS:
        found = f"{plan.num_shards} shards of {plan.shard_rows} rows"
        raise ManifestError(f"the manifest has {found}, at most {MAX_SHARDS} have names: raise shard_rows")
    if plan.shard_rows // segment_rows > MAX_SEGMENTS_PER_SHARD:
        raise ConfigError(f"shard_rows must be at most {MAX_SEGMENTS_PER_SHARD} segments, got {plan.shard_rows} rows")
    return plan


def fingerprint(files: Iterable[ManifestFile]) -> str:
    """32 hexadecimal digits that change with the content or the order of the files, not with their folder."""
    digest = hashlib.blake2b(digest_size=16, person=b"manifest files 1")
    for file in files:
        basename = file.uri.rstrip("/").rsplit("/", 1)[-1]
        for part in (basename, str(file.size_bytes), str(file.num_rows), file.footer_digest):
            digest.update(struct.pack("<Q", len(part.encode())))
            digest.update(part.encode())
    return digest.hexdigest()


def _starts(sizes: Iterable[int]) -> list[int]:
    """Where each part starts when they follow each other, and where the last one ends."""
    return list(accumulate(sizes, initial=0))


def _locate(starts: list[int], number: int) -> tuple[int, int]:
    """The file that holds a part, and the part's place in it; files without parts are never found."""
    if not 0 <= number < starts[-1]:
        raise IndexError(f"{number} is not in 0 to {starts[-1] - 1}")
    file = bisect_right(starts, number) - 1
    return file, number - starts[file]
