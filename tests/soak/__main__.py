"""``python -m tests.soak --faults N --seed S [--s3]``: runs under at least N faults, and the totals.

Exit status 0 only if no row was lost, doubled or unaccounted for and every run ended with ``_SUCCESS``.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.soak.soak import Soak, SoakTotals


@contextmanager
def _soak(folder: Path, seed: int, *, is_s3: bool) -> Iterator[Soak]:
    if not is_s3:
        yield Soak(folder, seed, output_root=str(folder / "outputs"), spoils=True)
        return
    from tests.soak.s3_fault import faulty_s3

    with faulty_s3(folder, seed) as s3:
        yield Soak(folder, seed, output_root=s3.root, spoils=False, calm=s3.calm)


def _memory() -> str | None:
    """A folder in memory, where flushing costs nothing: processes are killed here, not machines."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _tell(totals: SoakTotals, seed: int, wall_s: float) -> None:
    for line in (*totals.strange_ends, *totals.findings):
        print(line)
    for kind, count in sorted((totals.faults | totals.notes).items()):
        print(f"{count:8} {kind}")
    print(
        f"seed {seed}: {totals.num_faults} faults in {totals.runs} runs and {totals.starts} starts, {wall_s:.0f} s: "
        f"rows lost {totals.lost}, duplicated {totals.duplicated}, unaccounted {totals.unaccounted}, "
        f"misjudged {totals.misjudged}; runs without _SUCCESS {totals.without_success}; "
        f"results changed {totals.changed_results}; "
        f"findings of verify {len(totals.findings)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--faults", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--s3", action="store_true", help="on a real S3 server behind a proxy that injects the faults")
    arguments = parser.parse_args()
    started_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="soak.", dir=_memory(), ignore_cleanup_errors=True) as name,
        _soak(Path(name), arguments.seed, is_s3=arguments.s3) as soak,
    ):
        while soak.totals.num_faults < arguments.faults:
            soak.run_one()
    _tell(soak.totals, arguments.seed, time.monotonic() - started_s)
    return 0 if soak.totals.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
