"""The seed of a row that names none, and those of a row's further images."""

import hashlib

from manifests.row.parse import Row


def row_seed(row: Row, job_seed: int) -> int:
    """The row's own seed, else 63 bits that depend on the job's seed and the row's id, not on its place."""
    if row.seed is not None:
        return row.seed
    digest = hashlib.blake2b(f"{job_seed}:{row.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def nth_seed(seed: int, number: int) -> int:
    """The seed of a row's ``number``-th image: that of the row for the first, 63 bits drawn from it for the others."""
    if number == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}:image {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
