"""Running goldens: from a directory to one outcome each."""

import sys
import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import GOLDEN_DIRECTORY, Comparison, Golden, Mismatch, Unsupported, read_golden
from tests.parity.registry import CHECKS

Status = Literal["ok", "FAILED", "unsupported"]


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of one golden; ``detail`` is the first difference, or the reason why it was not run.

    ``skipped`` says of each case in it that was not run, why.
    """

    name: str
    status: Status
    detail: str
    skipped: tuple[str, ...] = ()

    @property
    def num_skipped(self) -> int:
        """Cases of it that were not run; 1 where all of it was not and it has no cases."""
        return len(self.skipped) or int(self.status == "unsupported")

    def __str__(self) -> str:
        lines = [(self.status, self.detail), *(("unsupported", why) for why in self.skipped)]
        return "\n".join(f"{status:<11} {self.name}: {detail}" for status, detail in lines)


def golden_paths(root: Path) -> list[Path]:
    """Descriptions of all goldens below ``root``, by name."""
    return sorted((root / GOLDEN_DIRECTORY).glob("*.json"))


def run_goldens(root: Path, kinds: Collection[str] | None = None) -> Iterator[RowResult]:
    """Outcomes one after the other; only of some kinds if given."""
    checkpoints = Checkpoints()
    for path in golden_paths(root):
        try:
            golden = read_golden(path)
        except Mismatch as error:
            yield RowResult(path.stem, "FAILED", str(error))
            continue
        if kinds is None or golden.kind in kinds:
            yield run_golden(golden, checkpoints)


def run_golden(golden: Golden, checkpoints: Checkpoints) -> RowResult:
    """Check one golden. Whatever a check raises is a failure of this golden alone."""
    comparison = Comparison()
    status, detail = _checked(golden, comparison, checkpoints)
    return RowResult(golden.name, status, detail, tuple(comparison.skipped))


def _checked(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> tuple[Status, str]:
    try:
        check_golden(golden, comparison, checkpoints)
    except Unsupported as error:
        return "unsupported", str(error)
    except Mismatch as error:
        return "FAILED", str(error)
    except Exception as error:  # one broken golden must not hide the others
        traceback.print_exc(file=sys.stderr)
        return "FAILED", f"{type(error).__name__}: {error}"
    detail = f"{comparison.num_values} values"
    if comparison.not_checked:
        detail += f" (not checked: {', '.join(comparison.not_checked)})"
    return "ok", detail


def check_golden(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Check one golden against its kind's check.

    Raises:
        Mismatch: At the first difference, or if nothing was compared.
        Unsupported: If there is no check for it, or for any of its cases.
    """
    if golden.kind not in CHECKS:
        raise Unsupported(f"kind {golden.kind!r} is not known")
    CHECKS[golden.kind](golden, comparison, checkpoints)
    if comparison.num_values == 0:
        raise Unsupported("none of its cases is known") if comparison.skipped else Mismatch("nothing was compared")
