"""What ``dimoo-batch bench`` measures, rows of one kind, size and preset, and how the figures are printed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from dimoo_core.presets import find_preset
from dimoo_core.settings import ImageSettings, TextSettings
from manifests.row.settings import RowDefaults

BenchTask = Literal["text_to_image", "caption"]


@dataclass(frozen=True, slots=True)
class BenchCase:
    """Rows that are alike; ``num_steps`` is what each of them needs."""

    task: BenchTask
    preset: str
    settings: ImageSettings | TextSettings

    @property
    def num_steps(self) -> int:
        """Denoising steps of a row, if none ends early."""
        if isinstance(self.settings, ImageSettings):
            return self.settings.num_steps
        return self.settings.num_blocks * self.settings.steps_per_block

    @property
    def size(self) -> str:
        """Pixels of an image, or tokens of an answer."""
        if isinstance(self.settings, ImageSettings):
            return f"{self.settings.width_px}x{self.settings.height_px}"
        return f"{self.settings.max_tokens} tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """One case, measured.

    ``rows`` is how many were worth being done in ``seconds``: a case that is stopped at its limit counts how far in
    their steps its rows have come. ``engine_busy_ratio`` is the share of the time that was not the image codec's or the
    loop's. ``batch_fill_ratio`` is of the most tokens that a step may have. ``error`` stands where a request failed.
    """

    task: str
    preset: str
    size: str
    steps: int
    rows: float
    is_complete: bool
    seconds: float
    rows_per_hour: float
    tokens_per_s: float
    engine_busy_ratio: float
    batch_fill_ratio: float
    peak_memory_bytes: int
    error: str | None = None


def bench_cases(
    defaults: RowDefaults, presets: tuple[str, ...], sizes: tuple[tuple[int, int], ...], tasks: tuple[BenchTask, ...]
) -> list[BenchCase]:
    """Every preset with every size of image, and with captions.

    Args:
        defaults: Of the job; have everything that presets and sizes do not.
        sizes: Width and height in pixels; none: that of the defaults.
    """
    cases: list[BenchCase] = []
    for name in presets:
        preset = find_preset(name)
        if "text_to_image" in tasks:
            image = preset.image(defaults.text_to_image, defaults.explicit_text_to_image)
            shapes = sizes or ((image.width_px, image.height_px),)
            cases += [
                BenchCase("text_to_image", name, replace(image, width_px=width, height_px=height))
                for width, height in shapes
            ]
        if "caption" in tasks:
            cases.append(
                BenchCase("caption", name, preset.text(defaults.understanding, defaults.explicit_understanding))
            )
    return cases


_GIB = 2**30
_HEADER = ("task", "size", "preset", "steps", "rows/h", "tokens/s", "engine busy", "batch fill", "memory")


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
