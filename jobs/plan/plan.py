"""The plan of a run: rows, arithmetic, objects and bytes, and what is done already."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from dimoo_core.engine.flops import Cost
from dimoo_core.errors import DimooError
from dimoo_core.memory.need import MemoryNeed, RequestShape
from jobs.manifest.inspect import manifest_rows
from jobs.plan.row_cost import ModelFacts, RowCosts
from jobs.run.identity import segment_rows_of
from jobs.spec.spec import JobSpec
from jobs.tools.catalog import MEMORY_DTYPES
from manifests.errors import RowFailure
from manifests.files.plan import ShardPlan
from manifests.row.parse import Row
from manifests.row.settings import RowDefaults
from pipeline.images.inputs import ImageFetcher
from pipeline.manifest import open_manifest
from pipeline.ordered_map import thread_map
from pipeline.output.directory import RunDirectory
from pipeline.output.results import RunTotals
from pipeline.protocol.settings import IMAGE_FORMATS
from pipeline.storage.reader import open_store

_FIXED_OBJECTS = 5  # run.json, _SUCCESS, and the claim, the heartbeat and the log of one start
_PART_BYTES, _ROW_BYTES = 9_000, 150  # before a probe
_MAX_REASONS = 20
_READ_THREADS = 16


@dataclass(slots=True)
class Group:
    """Rows of one task whose results have one size; ``size`` is ``64x48``, or ``text``."""

    task: str
    size: str
    rows: int = 0
    images: int = 0
    pixels: int = 0
    cost: Cost = field(default_factory=Cost)
    image_bytes: float = 0.0
    may_skip: bool = False  # steps: whether a row of it may cost less than is counted


@dataclass(slots=True)
class RunPlan:
    """What a run would do."""

    manifest: str
    output: str
    rows: int = 0
    invalid: int = 0
    done: int = 0
    failed_before: int = 0
    segments: int = 0
    segment_rows: int = 0
    failure_files: int = 0
    part_bytes: float = 0.0
    assumed_sizes: int = 0
    is_estimated: bool = False
    memory_bytes: dict[str, int] = field(default_factory=dict)  # that a worker takes, by the type of the weights
    groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    reasons: list[RowFailure] = field(default_factory=list)
    reason_counts: Counter[str] = field(default_factory=Counter)

    @property
    def cost(self) -> Cost:
        """Of all rows together."""
        return sum((group.cost for group in self.groups.values()), Cost())

    @property
    def images(self) -> int:
        """Image files."""
        return sum(group.images for group in self.groups.values())

    @property
    def objects(self) -> int:
        """Objects of the finished output, started once."""
        return self.images + self.segments + self.failure_files + _FIXED_OBJECTS

    @property
    def bytes(self) -> int:
        """Bytes of images and parts."""
        return round(self.part_bytes + sum(group.image_bytes for group in self.groups.values()))

    @property
    def remaining_ratio(self) -> float:
        """Share of the rows that is still to be run, in [0, 1]."""
        return 1 - (self.done + self.failed_before) / self.rows if self.rows else 0.0


def plan_run(
    spec: JobSpec, defaults: RowDefaults, facts: ModelFacts, *, num_workers: int, reads_remote: bool
) -> RunPlan:
    """Read a manifest and estimate what a run of it would do. No model is loaded and nothing is written.

    Args:
        num_workers: How many there would be; the rows of a segment follow from it.
        reads_remote: Whether input images on S3 are read for their sizes.
    """
    source = open_manifest(spec.manifest, defaults=defaults, passthrough=spec.passthrough)
    with closing(open_store(spec.output_uri)) as store, closing(ImageFetcher(spec.sources)) as images:
        run = RunDirectory(store)
        before = run.description()
        num_rows = source.num_rows if spec.limit is None else min(spec.limit, source.num_rows)
        segment_rows = spec.pipeline.segment_rows or segment_rows_of(num_rows, num_workers, before)
        shards = source.plan(segment_rows=segment_rows, limit=spec.limit)
        plan = RunPlan(spec.manifest, store.uri, segments=shards.num_segments, segment_rows=segment_rows)
        plan.is_estimated = facts.is_estimated
        if before is not None:
            for totals in _committed(run, shards):
                plan.done += totals.num_done
                plan.failed_before += totals.num_failed
        costs = RowCosts(facts, spec, images, reads_remote=reads_remote)
        segments_with_failures: set[int] = set()
        segment_of = _segment_numbers(shards)
        for item, folder in manifest_rows(source, defaults, spec.limit):
            plan.rows += 1
            if not isinstance(item, RowFailure):
                try:
                    _add(plan, item.task, costs, item, folder, spec)
                    continue
                except DimooError as error:
                    item = RowFailure(item.index, item.id, "fetch", type(error).__name__, str(error))
            plan.invalid += 1
            plan.reason_counts[f"{item.stage}: {item.error_type}"] += 1
            segments_with_failures.add(segment_of(item.row))
            if len(plan.reasons) < _MAX_REASONS:
                plan.reasons.append(item)
        plan.failure_files = len(segments_with_failures)
        plan.assumed_sizes = costs.num_assumed_sizes
        plan.part_bytes = plan.segments * _PART_BYTES + (plan.rows - plan.invalid) * _ROW_BYTES
        plan.memory_bytes = _memory(plan, spec, defaults, facts)
        return plan


def _memory(plan: RunPlan, spec: JobSpec, defaults: RowDefaults, facts: ModelFacts) -> dict[str, int]:
    """Of a model on a CPU, with as many as fill a step of the largest image that is made, or of those by default."""
    settings = defaults.text_to_image
    largest = max((group.pixels // group.images for group in plan.groups.values() if group.images), default=0)
    image_px = largest or settings.width_px * settings.height_px
    shape = RequestShape.of_image(settings, image_px, 0, facts.num_codes)
    need = MemoryNeed(
        config=facts.config,
        codec=facts.codec,
        dtype="float32",
        device="cpu",
        shape=shape,
        num_requests=plan.rows,
        max_step_tokens=spec.engine.max_step_tokens,
    )
    return {dtype: replace(need, dtype=dtype).host_bytes for dtype in MEMORY_DTYPES}


def _committed(run: RunDirectory, shards: ShardPlan) -> Iterator[RunTotals]:
    """Rows of each part that is there; reads metadata alone and writes nothing."""
    committed = run.committed_segments(shards)
    last_parts = (committed.last_part(segment.name) for segment in committed)
    return thread_map(lambda name: run.summary(name).totals, last_parts, num_threads=_READ_THREADS)


def _add(plan: RunPlan, task: str, costs: RowCosts, row: Row, folder: str, spec: JobSpec) -> None:
    cost = costs.of(row, folder)
    size = "text" if not cost.num_images else "codes" if cost.size is None else f"{cost.size[0]}x{cost.size[1]}"
    group = plan.groups.setdefault((task, size), Group(task, size))
    group.rows += 1
    group.cost += cost.cost
    group.may_skip |= cost.may_skip
    if cost.num_images:
        pixels = 0 if cost.size is None else cost.num_images * cost.size[0] * cost.size[1]
        group.images += cost.num_images
        group.pixels += pixels
        group.image_bytes += pixels * IMAGE_FORMATS[spec.image.format].bytes_per_pixel


def _segment_numbers(plan: ShardPlan) -> Callable[[int], int]:
    """From a row's number to that of its segment; files are cut separately."""
    starts = [segment.first_row for segment in plan]
    return lambda row: bisect_right(starts, row) - 1
