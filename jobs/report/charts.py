"""Charts as SVG, drawn without a script: they take the page's colours and can be read as a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from jobs.report.statistics import Histogram, RunStatistics, most_common
from jobs.text import duration, pluralize
from pipeline.output.epoch import EpochReport

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360.0, 180.0, 48.0, 30.0, 12.0
"""As wide as a phone shows it, nearly: letters are no smaller there than they are drawn."""

_BAR_ROW, _BAR_HEIGHT = 36.0, 12.0  # the name stands above its bar, where there is room for it
_VALUE_WIDTH = 70.0
_MAX_LABEL_CHARS = 48


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure: a title, a drawing, and the numbers behind it as rows of a table."""

    title: str
    note: str
    svg: str
    header: tuple[str, str]
    table: tuple[tuple[str, str], ...]

    def html(self) -> str:
        """The figure with its table folded away."""
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in self.table)
        return (
            f'<figure class="plot"><figcaption><h3>{escape(self.title)}</h3><p>{escape(self.note)}</p></figcaption>'
            f"{self.svg}<details><summary>Numbers<span class=sr> of {escape(self.title)}</span></summary>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></details></figure>"
        )


def bar_plot(title: str, note: str, what: str, counts: Sequence[tuple[str, int]]) -> Plot:
    """Horizontal bars, one for each name."""
    most = max((count for _, count in counts), default=1) or 1
    height = _BAR_ROW * len(counts) + 4
    parts = []
    for index, (name, count) in enumerate(counts):
        top = index * _BAR_ROW
        length = max(2.0, (_WIDTH - _VALUE_WIDTH) * count / most)
        label = name if len(name) <= _MAX_LABEL_CHARS else name[: _MAX_LABEL_CHARS - 1] + "…"
        bar_top, bar_bottom = top + 18, top + 18 + _BAR_HEIGHT
        parts.append(
            f'<text class="label" x="0" y="{top + 13:g}">{escape(label)}</text>'
            f'<rect class="bar" x="0" y="{bar_top:g}" width="{length:.1f}" height="{_BAR_HEIGHT:g}" rx="3">'
            f"<title>{escape(name)}: {count:,}</title></rect>"
            f'<text class="value" x="{length + 7:.1f}" y="{bar_bottom - 1:g}">{count:,}</text>'
        )
    table = tuple((name, f"{count:,}") for name, count in counts)
    return Plot(title, note, _svg(title, note, height, parts), (what, "rows"), table)


def histogram_plot(title: str, note: str, unit: str, bars: Sequence[tuple[float, float, int]]) -> Plot:
    """Upright bars over ranges of a number."""
    most = max((count for *_, count in bars), default=1) or 1
    width, height = (_WIDTH - _LEFT - 8) / max(1, len(bars)), _HEIGHT - _BOTTOM - _TOP
    parts = [_grid(most)]
    for index, (start, end, count) in enumerate(bars):
        tall = height * count / most
        left = _LEFT + index * width
        parts.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{_TOP + height - tall:.1f}" width="{max(1.0, width - 2):.1f}" '
            f'height="{tall:.1f}" rx="2"><title>{start:,.0f} to {end:,.0f} {escape(unit)}: {count:,}</title></rect>'
        )
    ends = (bars[0][0], bars[len(bars) // 2][0], bars[-1][1]) if bars else (0.0, 0.0, 0.0)
    parts.append(_axis([f"{end:,.0f}" for end in ends], unit))
    table = tuple((f"{start:,.1f} to {end:,.1f}", f"{count:,}") for start, end, count in bars)
    return Plot(title, note, _svg(title, note, _HEIGHT, parts), (unit, "rows"), table)


def line_plot(title: str, note: str, unit: str, points: Sequence[tuple[float, float]], ends: tuple[str, str]) -> Plot:
    """A line over time; ``points`` are seconds and values, ``ends`` the labels of the axis at its beginning and end."""
    most = max((value for _, value in points), default=1.0) or 1.0
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1e-9)
    width, height = _WIDTH - _LEFT - 8, _HEIGHT - _BOTTOM - _TOP
    spots = [
        (_LEFT + width * (second - first) / (last - first), _TOP + height * (1 - value / most))
        for second, value in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    base = f"{_TOP + height:.1f}"
    parts = [
        _grid(most),
        f'<polygon class="area" points="{spots[0][0]:.1f},{base} {line} {spots[-1][0]:.1f},{base}"/>',
        f'<polyline class="line" points="{line}"/>',
        _axis([ends[0], "", ends[1]], ""),
    ]
    table = tuple((f"{second:,.0f} s", f"{value:,.3g}") for second, value in points)
    return Plot(title, note, _svg(title, note, _HEIGHT, parts), ("time", unit), table)


def _grid(most: float) -> str:
    height = _HEIGHT - _BOTTOM - _TOP
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + height * (1 - share)
        value = most * share
        shown = f"{value:,.0f}" if most >= 10 or value == 0 else f"{value:.2g}"
        lines.append(
            f'<line class="grid" x1="{_LEFT:g}" x2="{_WIDTH - 8:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 7:g}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>'
        )
    return "".join(lines)


def _axis(labels: Sequence[str], unit: str) -> str:
    y = _HEIGHT - 10
    places = ((_LEFT, "start"), ((_LEFT + _WIDTH - 8) / 2, "middle"), (_WIDTH - 8, "end"))
    texts = [
        f'<text class="tick" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(label)}</text>'
        for (x, anchor), label in zip(places, labels, strict=True)
    ]
    return "".join(texts) if not unit else "".join(texts).replace("</text>", f" {escape(unit)}</text>", 3)


def _svg(title: str, note: str, height: float, parts: Sequence[str]) -> str:
    name = escape(f"{title}. {note}", quote=True)
    return f'<svg viewBox="0 0 {_WIDTH:g} {height:g}" role="img" aria-label="{name}">{"".join(parts)}</svg>'


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
        yield _histogram("File sizes", "of an image file", "KiB", statistics.file_kib)
    if statistics.num_texts:
        yield _histogram("Text lengths", "of an answer or caption", "words", statistics.text_words)
    if statistics.score_percent.count:
        yield _histogram("Scores", "in percent", "%", statistics.score_percent)
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
        note = f"Rows settled a second, in {len(reports)} start{'s' if len(reports) > 1 else ''} of the run"
        yield line_plot("Throughput", note, "rows/s", rates, ends)
    if len(steps) > 1:
        yield line_plot("Step time", "Milliseconds of a step, mean of all engines", "milliseconds", steps, ends)


def _points_of(report: EpochReport) -> list[list[float]]:
    """What a start noted. Its last interval may be short, whose rate means nothing: it joins the one before."""
    points = [point for point in report.note.get("points", []) if len(point) == _POINT_FIELDS]
    if len(points) >= _POINTS_OF_TWO_INTERVALS:
        before_last, last = (new[0] - old[0] for old, new in pairwise(points[-_POINTS_OF_TWO_INTERVALS:]))
        if last < before_last / 2:
            del points[-2]
    return points


def _histogram(title: str, what: str, unit: str, numbers: Histogram) -> Plot:
    note = f"{what}: {numbers.least:,.0f} to {numbers.most:,.0f} {unit}, mean {numbers.mean:,.1f}"
    num_bars = min(_MAX_BARS, 4 + round(numbers.count**0.5))
    return histogram_plot(title, note, unit, numbers.bars(num_bars))
