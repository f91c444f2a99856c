"""What the page's charts show, in numbers; ``page/charts.html`` draws them without a script."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from jobs.report.statistics import Histogram, RunStatistics, most_common
from jobs.text import duration, pluralize
from pipeline.output.epoch import EpochReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One figure, and the numbers behind it as rows of a table.

    ``data`` are names and counts of ``bars``, ``(from, to, count)`` of each range of a ``histogram`` in a unit, or
    seconds and values of a ``line``, which ``ends`` names at its beginning and end.
    """

    kind: Literal["bars", "histogram", "line"]
    title: str
    note: str
    header: tuple[str, str]
    data: Sequence[tuple[Any, ...]]
    table: tuple[tuple[str, str], ...]
    ends: tuple[str, str] = ("", "")

    @property
    def most(self) -> float:
        """The largest value, which is as high or as long as the drawing; 1 if there is none above 0."""
        return max((values[-1] for values in self.data), default=1) or 1


def bar_plot(title: str, note: str, what: str, counts: Sequence[tuple[str, int]]) -> Plot:
    """Horizontal bars, one for each name."""
    table = tuple((name, f"{count:,}") for name, count in counts)
    return Plot(kind="bars", title=title, note=note, header=(what, "rows"), data=counts, table=table)


def histogram_plot(title: str, what: str, unit: str, numbers: Histogram) -> Plot:
    """Upright bars over ranges of a number."""
    bars = numbers.bars(min(_MAX_BARS, 4 + round(numbers.count**0.5)))
    note = f"{what}: {numbers.least:,.0f} to {numbers.most:,.0f} {unit}, mean {numbers.mean:,.1f}"
    table = tuple((f"{start:,.1f} to {end:,.1f}", f"{count:,}") for start, end, count in bars)
    return Plot(kind="histogram", title=title, note=note, header=(unit, "rows"), data=bars, table=table)


def line_plot(title: str, note: str, unit: str, points: Sequence[tuple[float, float]], ends: tuple[str, str]) -> Plot:
    """A line over time; ``points`` are seconds and values."""
    table = tuple((f"{second:,.0f} s", f"{value:,.3g}") for second, value in points)
    return Plot(kind="line", title=title, note=note, header=("time", unit), data=points, table=table, ends=ends)


_MAX_BARS = 24
_MAX_NAMES = 12
_POINTS_OF_TWO_INTERVALS = 3
_POINT_FIELDS = 5  # seconds, rows, tokens, steps, busy seconds; see ``jobs.progress.monitor``


def plots(statistics: RunStatistics) -> Iterator[Plot]:
    """The plots that there are numbers for."""
    done = statistics.num_done
    if done:
        yield bar_plot("Tasks", pluralize(done, "finished row"), "task", most_common(statistics.tasks, _MAX_NAMES))
    if statistics.num_images:
        num_images, num_sizes = pluralize(statistics.num_images, "image"), pluralize(len(statistics.sizes), "size")
        note = f"{num_images}, {num_sizes} in pixels"
        yield bar_plot("Sizes", note, "size", most_common(statistics.sizes, _MAX_NAMES))
        yield histogram_plot("File sizes", "of an image file", "KiB", statistics.file_kib)
    if statistics.num_texts:
        yield histogram_plot("Text lengths", "of an answer or caption", "words", statistics.text_words)
    if statistics.score_percent.count:
        yield histogram_plot("Scores", "in percent", "%", statistics.score_percent)
    if done:
        steps = {f"{steps} steps": count for steps, count in sorted(statistics.steps.items())}
        yield bar_plot("Steps", "Denoising steps of a row", "steps", most_common(steps, _MAX_NAMES))
    if statistics.failures:
        failures = {f"{stage}: {error}": count for (stage, error), count in statistics.failures.items()}
        note = f"{statistics.num_failed:,} of {statistics.num_failed + done:,} rows"
        yield bar_plot("Failures", note, "stage and error", most_common(failures, _MAX_NAMES))


def course_plots(reports: Sequence[EpochReport]) -> Iterator[Plot]:
    """How fast the run went, from what its starts noted: rows per second, and the time of a step."""
    rates, steps, before_s = [], [], 0.0
    for report in reports:
        points = _points_of(report)
        for old, new in pairwise(points):
            elapsed_s, at_s = new[0] - old[0], before_s + new[0]
            if elapsed_s > 0:
                rates.append((at_s, max(0.0, new[1] - old[1]) / elapsed_s))
            if new[3] > old[3]:
                steps.append((at_s, 1000 * max(0.0, new[4] - old[4]) / (new[3] - old[3])))
        before_s += points[-1][0] if points else 0.0
    ends = ("start", f"{duration(before_s)} of work")
    if len(rates) > 1:
        note = f"Rows finished per second, in {len(reports)} start{'s' if len(reports) > 1 else ''} of the run"
        yield line_plot("Throughput", note, "rows/s", rates, ends)
    if len(steps) > 1:
        yield line_plot("Step time", "Milliseconds per step, mean of all engines", "milliseconds", steps, ends)


def _points_of(report: EpochReport) -> list[list[float]]:
    """What a start noted. Its last interval may be short, whose rate means nothing: it joins the one before."""
    points = [point for point in report.note.get("points", []) if len(point) == _POINT_FIELDS]
    if len(points) >= _POINTS_OF_TWO_INTERVALS:
        before_last, last = (new[0] - old[0] for old, new in pairwise(points[-_POINTS_OF_TWO_INTERVALS:]))
        if last < before_last / 2:
            del points[-2]
    return points
