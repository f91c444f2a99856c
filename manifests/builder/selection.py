"""Which records are taken, and into which split each goes: sampling, splits, repetition with other seeds."""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Mapping

from manifests.builder.record import Record
from manifests.content_id import content_id

_UNIT = 2.0**-64


def chance(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on the two alone."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") * _UNIT


def sample_share(records: Iterable[Record], share: float, seed: int) -> Iterator[Record]:
    """About this share of the records, each by a chance of its own, in their order."""
    for number, record in enumerate(records):
        if chance(seed, f"sample {number}") < share:
            yield record


def sample_count(records: Iterable[Record], count: int, seed: int) -> Iterator[Record]:
    """Exactly ``count`` of the records, each set of them as likely, in their order; all if there are no more.

    Memory grows with ``count``, not with the records.
    """
    kept: list[tuple[float, int, Record]] = []
    for number, record in enumerate(records):
        entry = (-chance(seed, f"sample {number}"), number, record)
        if len(kept) < count:
            heapq.heappush(kept, entry)
        elif entry > kept[0]:
            heapq.heapreplace(kept, entry)
    for _, _, record in sorted(kept, key=lambda entry: entry[1]):
        yield record


def repeated(record: Record, count: int) -> Iterator[Record]:
    """The record ``count`` times, with the columns ``sample`` (from 0) and ``seed``, and an id of its own each.

    The first has the record's seed, or 0; each that follows has one more.
    """
    first = record.cells.get("seed") or 0
    row_id = record.cells.get("id") or content_id(record.cells)
    for sample in range(count):
        yield record.with_cells({**record.cells, "id": f"{row_id}-{sample}", "seed": first + sample, "sample": sample})


def split_of(record: Record, splits: Mapping[str, float], seed: int) -> str:
    """The split of a record: by chance, but the same for equal content, so that no row is in two."""
    point = chance(seed, f"split {content_id({**record.cells, 'seed': None})}")
    for name, share in splits.items():
        point -= share
        if point < 0:
            return name
    return next(reversed(dict(splits)))
