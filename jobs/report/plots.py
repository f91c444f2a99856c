"""Which plots a run gets, from its counts."""

from collections.abc import Iterator

from jobs.report.chart import Plot, bar_plot, histogram_plot
from jobs.report.statistics import Histogram, RunStatistics, most_common

_MAX_BARS = 24
_MAX_NAMES = 12


def plots(statistics: RunStatistics) -> Iterator[Plot]:
    """The plots that there are numbers for."""
    done = statistics.num_done
    if done:
        yield bar_plot("Tasks", f"{done:,} finished rows", "task", most_common(statistics.tasks, _MAX_NAMES))
    if statistics.num_images:
        note = f"{statistics.num_images:,} images, {len(statistics.sizes)} sizes in pixels"
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


def _histogram(title: str, what: str, unit: str, numbers: Histogram) -> Plot:
    note = f"{what}: {numbers.least:,.0f} to {numbers.most:,.0f} {unit}, mean {numbers.mean:,.1f}"
    num_bars = min(_MAX_BARS, 4 + round(numbers.count**0.5))
    return histogram_plot(title, note, unit, numbers.bars(num_bars))
