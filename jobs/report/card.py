"""The dataset card: Markdown with the front matter that the Hugging Face hub reads, at the root of the output."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jobs.report.facts import RunFactSheet
from jobs.report.row import ReportRow
from jobs.report.statistics import RunStatistics, most_common
from manifests.row.task_name import find_task


def card_text(facts: RunFactSheet, lines: Iterable[str], *, has_inputs: bool, **front: Any) -> str:
    """A card: the front matter, with ``front`` beside what all cards have; a title; ``lines``; where it comes from.

    Args:
        has_inputs: Whether rows carry images that the model did not make.
        front: Keys of the front matter, as ``DatasetCardData`` names them.
    """
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name=facts.title,
        tags=["synthetic", "lumina-dimoo", "dimoo-batch"],
        **facts.licence(has_inputs=has_inputs),
        **front,
    )
    body = [
        f"# {plain_words(facts.title)}\n",
        *lines,
        *table_lines("Provenance", ("what", "value"), facts.provenance()),
        *table_lines("Default settings", ("setting", "value"), facts.settings()),
        f"\n## Licence\n\n{facts.licence_words(has_inputs=has_inputs)}\n",
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(body)


def table_lines(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A section with a table; rows whose last cell is empty are left out."""
    yield f"\n## {title}\n"
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join('---' for _ in header)} |"
    for row in rows:
        if row[-1]:
            yield f"| {' | '.join(plain_words(cell) for cell in row)} |"


def plain_words(text: str) -> str:
    """The text on one line, unable to break a table or to become markup."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


CARD_KEY = "README.md"
_NUM_SAMPLES = 6
_SIZE_CATEGORIES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))


def dataset_card(facts: RunFactSheet, statistics: RunStatistics, rows: Sequence[ReportRow], *, has_sheet: bool) -> str:
    """The card of a run; ``has_sheet``: a contact sheet is in the report."""
    total = statistics.num_done + statistics.num_failed
    return card_text(
        facts,
        _lines(facts, statistics, rows, has_sheet),
        has_inputs=_has_inputs(statistics),
        task_categories=sorted({_category(task) for task in statistics.tasks}) or ["text-to-image"],
        size_categories=[next((name for least, name in _SIZE_CATEGORIES if total < least), "n>10M")],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "parts/*.parquet"}]}],
    )


def _category(task: str) -> str:
    return known.category if (known := find_task(task)) else "text-to-image"


def _has_inputs(statistics: RunStatistics) -> bool:
    """Whether a row had an image, or codes of one, to begin with; a task that nobody knows may have had."""
    tasks = map(find_task, statistics.tasks)
    return any(task is None or task.needs_image or task.needs_codes for task in tasks)


def _lines(facts: RunFactSheet, statistics: RunStatistics, rows: Sequence[ReportRow], has_sheet: bool) -> Iterator[str]:
    yield (
        f"{statistics.num_done:,} rows made by the model `{facts.model}` with dimoo-batch: "
        f"{statistics.num_images:,} images and {statistics.num_texts:,} texts. {statistics.num_failed:,} rows failed. "
        "The results are synthetic and have not been reviewed by people."
    )
    if _has_inputs(statistics):
        yield "\nThe inputs (images, or codes of images) belong to their owners: not synthetic, under their own terms."
    if not facts.is_complete:
        yield "\n**The run was not complete when this card was written.**"
    if has_sheet:
        yield "\n![The first images of the run](report/contact-sheet.png)"
    counts = [(name, f"{count:,}") for name, count in most_common(statistics.tasks, 30)]
    yield from table_lines("Counts", ("what", "rows"), counts)
    if statistics.sizes:
        sizes = [(name, f"{count:,}") for name, count in most_common(statistics.sizes, 12)]
        yield from table_lines("Image sizes", ("pixels", "images"), sizes)
    if statistics.failures:
        failed = [(f"{stage}: {error}", f"{n:,}") for (stage, error), n in statistics.failures.most_common(12)]
        yield from table_lines("Failures", ("stage and error", "rows"), failed)
    yield from _samples(rows)
    yield "\n## Load the data\n"
    yield '```python\nimport pyarrow.dataset as ds\n\ntable = ds.dataset("parts").to_table()\n```'


def _samples(rows: Sequence[ReportRow]) -> Iterator[str]:
    done = [row for row in rows if row.is_done]
    stride = max(1, len(done) // _NUM_SAMPLES)
    samples = done[::stride][:_NUM_SAMPLES]
    if samples:
        lines = [
            (
                row.task,
                _words(row.prompt),
                f"![{_words(row.prompt)}]({row.image})" if row.image else _words(row.text or ""),
            )
            for row in samples
        ]
        yield from table_lines("Samples", ("task", "prompt", "result"), lines)


def _words(text: str) -> str:
    return text if len(text) <= 160 else text[:159] + "…"
