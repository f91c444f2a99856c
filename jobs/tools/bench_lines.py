"""Measured cases as a table for people and as JSON for programs."""

from collections.abc import Iterable, Iterator
from typing import Any

from jobs.tools.bench_case import BenchResult

_GIB = 2**30
_HEADER = ("task", "size", "preset", "steps", "an hour", "tokens/s", "engine busy", "batch fill", "memory")


def bench_lines(machine: dict[str, Any], results: Iterable[BenchResult]) -> Iterator[str]:
    """The machine, then a line for each case; a case that was stopped at its limit has a ``~``."""
    yield f"{machine['model']} on {machine['device_name']}, {machine['dtype']}, torch {machine['torch']}"
    rows = [_HEADER, *(_cells(result) for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        aligned = (
            cell.ljust(width) if number < 3 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        yield "  ".join(aligned).rstrip()


def bench_json(machine: dict[str, Any], results: Iterable[BenchResult]) -> dict[str, Any]:
    """Everything, for programs."""
    return {**machine, "cases": [result.to_json() for result in results]}


def _cells(result: BenchResult) -> tuple[str, ...]:
    about = "" if result.is_complete else "~"
    return (
        result.task,
        result.size,
        result.preset,
        str(result.steps),
        f"{about}{result.rows_per_hour:,.1f}" if result.error is None else "failed",
        f"{result.tokens_per_s:,.0f}",
        f"{result.engine_busy_ratio:.0%}",
        f"{result.batch_fill_ratio:.0%}",
        f"{result.peak_memory_bytes / _GIB:.1f} GiB",
    )
