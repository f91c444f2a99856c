"""The seed of a row that names none."""

import hashlib

from manifests.row import Row


def row_seed(row: Row, job_seed: int) -> int:
    """The row's own seed, else 63 bits that depend on the job's seed and the row's id, not on its place."""
    if row.seed is not None:
        return row.seed
    digest = hashlib.blake2b(f"{job_seed}:{row.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
