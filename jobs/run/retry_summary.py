"""What a retry reports: one JSON object for programs, the run's own with a few keys more, and lines for people."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jobs.run.report_lines import next_lines, result_lines
from jobs.run.summary import RunSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySummary:
    """Outcome of one start of a retry.

    Attributes:
        run: Counts of the whole run as it is now.
        retry: Number of the retry; 0 if there was nothing to run again.
        classes: Of failures that were tried again.
        retried: Rows that this start ran again.
        mended: Those of them that are done now.
        kept: Failed rows that were not asked for, by their class.
        left: Rows of segments that the run has not committed yet.
    """

    run: RunSummary
    retry: int
    classes: tuple[str, ...]
    retried: int
    mended: int
    kept: dict[str, int]
    left: int

    @property
    def exit_code(self) -> int:
        """0: every row is done; 3: some are still failed, or were never run."""
        return 0 if self.run.exit_code == 0 and not self.left else 3

    def to_json(self) -> dict[str, object]:
        """For standard output."""
        return self.run.to_json() | {
            "status": "incomplete" if self.left else self.run.status,
            "retry": self.retry,
            "classes": list(self.classes),
            "retried": self.retried,
            "mended": self.mended,
            "kept": self.kept,
            "left": self.left,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.retried:
            yield f"retry {self.retry}: {self.mended} of {self.retried} failed rows are done now"
        yield from result_lines(replace(self.run, resumed=0))  # a row may have outcomes of several starts
        if self.left:
            yield f"  {self.left} rows were never run: the run command itself goes on with them"
        else:
            yield from next_lines(self.run)
