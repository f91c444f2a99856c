"""``python -m tests.parity DIR [--kind K ...]``: run every golden of a directory.

Exit codes: 0 nothing failed, 1 something did, 2 the directory or a kind is wrong.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from tests.parity.golden import GOLDEN_DIRECTORY
from tests.parity.registry import KINDS
from tests.parity.runner import golden_paths, run_goldens


def main(argv: list[str] | None = None) -> int:
    """Print one line a golden and the totals; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description="Replay recorded reference results.")
    parser.add_argument("directory", type=Path, help=f"holds {GOLDEN_DIRECTORY}/ and the checkpoints they name")
    parser.add_argument("--kind", nargs="+", action="extend", metavar="K", help=f"only these: {', '.join(KINDS)}")
    arguments = parser.parse_args(argv)
    root: Path = arguments.directory
    if unknown := sorted(set(arguments.kind or ()) - set(KINDS)):
        print(f"unknown kind {', '.join(unknown)}: known are {', '.join(KINDS)}", file=sys.stderr)
        return 2
    if not golden_paths(root):
        print(f"no goldens in {root}: there is no {root / GOLDEN_DIRECTORY}/*.json", file=sys.stderr)
        return 2

    counts: Counter[str] = Counter()
    num_skipped = 0
    for outcome in run_goldens(root, arguments.kind):
        counts[outcome.status] += 1
        num_skipped += outcome.num_skipped
        print(outcome, flush=True)
    print(f"{counts['ok']} passed, {counts['FAILED']} failed, {num_skipped} skipped")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
