"""A store that keeps a bit for each part instead of the part, so that 10^8 rows fit into a few megabytes."""

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from manifests.errors import RowFailure
from manifests.files.plan import Segment, ShardPlan
from pipeline.output.parts import SegmentSet
from pipeline.output.results import PartSummary, RowSuccess, part_bytes
from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound

_FAILING_SEGMENTS = 50  # one of so many has a failed row


class BitStore(Store):
    """Objects of a run whose parts all look alike; everything that is neither a part nor a failure is kept.

    Attributes:
        num_requests: By kind, as an object store would count them.
    """

    def __init__(self, plan: ShardPlan) -> None:
        super().__init__("memory:/run")
        self._plan = plan
        self._folders = {"parts": SegmentSet(plan), "_failures": SegmentSet(plan)}
        self._others: dict[str, bytes] = {}
        self._parts: dict[tuple[int, int], tuple[bytes, PartSummary]] = {}  # by rows and failed rows
        self.num_requests: Counter[str] = Counter()

    def part_of(self, segment: Segment) -> tuple[bytes, PartSummary]:
        """What a worker commits for a segment: a real part, the same for all with the same counts."""
        number = self._plan.number_of(segment.name)
        assert number is not None
        counts = (segment.num_rows, int(number % _FAILING_SEGMENTS == 0))
        if counts not in self._parts:
            self._parts[counts] = _part(*counts)
        return self._parts[counts]

    def get(self, key: str) -> bytes:
        """See ``Store.get``."""
        self.num_requests["get"] += 1
        return self._read(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See ``Store.get_range``."""
        self.num_requests["get"] += 1
        return self._read(key)[start : start + length]

    def put(self, key: str, data: bytes, *, content_type: str | None = None) -> None:
        """See ``Store.put``."""
        self.num_requests["put"] += 1
        self._write(key, data)

    def _create(self, key: str, data: bytes) -> bool:
        self.num_requests["put"] += 1
        return not self._holds(key) and self._write(key, data)

    def size(self, key: str) -> int | None:
        """See ``Store.size``."""
        self.num_requests["head"] += 1
        return len(self._read(key)) if self._holds(key) else None

    def list(self, prefix: str = "") -> Iterator[str]:
        """See ``Store.list``."""
        for number, key in enumerate(self._keys(prefix)):
            self.num_requests["list"] += number % 1000 == 0
            yield key

    def delete(self, key: str) -> None:
        """See ``Store.delete``; parts are never deleted."""
        self.num_requests["delete"] += 1
        self._others.pop(key, None)

    def _keys(self, prefix: str) -> Iterator[str]:
        for folder, segments in self._folders.items():
            if prefix == f"{folder}/":
                yield from (f"{folder}/{segment.name}.parquet" for segment in segments)
        yield from (key for key in list(self._others) if key.startswith(prefix))

    def _segment(self, key: str) -> tuple[SegmentSet, str] | None:
        folder, _, name = key.removesuffix(".parquet").partition("/")
        return (self._folders[folder], name) if folder in self._folders else None

    def _holds(self, key: str) -> bool:
        found = self._segment(key)
        return key in self._others if found is None else found[1] in found[0]

    def _read(self, key: str) -> bytes:
        if not self._holds(key):
            raise ObjectNotFound("read", self.uri_of(key), "NoSuchKey")
        found = self._segment(key)
        if found is None:
            return self._others[key]
        number = self._plan.number_of(found[1])
        assert number is not None
        return self.part_of(self._plan.segment(number))[0]

    def _write(self, key: str, data: bytes) -> bool:
        found = self._segment(key)
        if found is None:
            self._others[key] = data
        else:
            found[0].add(found[1])
        return True


def _part(num_rows: int, num_failed: int) -> tuple[bytes, PartSummary]:
    """A real part of rows that answer a question."""
    done = [
        RowSuccess(
            row=row,
            id=f"row-{row:010d}",
            task="vqa",
            prompt="How many boats are there?",
            output=None,
            text="Two boats lie at the pier.",
            width=None,
            height=None,
            steps=64,
            cfg_scale=0.0,
            temperature=0.0,
            seed=row,
            preset="exact",
            num_tokens=64,
            finish_reason="stop",
            sha256=None,
            bytes=None,
        )
        for row in range(num_failed, num_rows)
    ]
    failures = tuple(RowFailure(row, f"row-{row:010d}", "fetch", "E", "gone") for row in range(num_failed))
    rows = pa.table({"id": [f"row-{row:010d}" for row in range(num_rows)]})
    part = part_bytes([*failures, *done], rows, 0, writer="0" * 32, run="0" * 32)
    return part, PartSummary(len(done), failures)
