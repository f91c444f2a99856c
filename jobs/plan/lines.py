"""A plan for people and for programs, and the GPUs that it knows by name: arithmetic, memory, and cost of an hour."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dimoo_core.errors import ConfigError
from dimoo_core.memory.need import size_words
from jobs.plan.plan import Group, RunPlan
from jobs.plan.probe import Probe
from jobs.text import duration
from manifests.tasks import TASKS

USED_SHARE = 0.5
"""Of the peak, where nothing was measured: the reference's published 58.2 s for 1536x768 on an A800 is 0.58 of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Dense bf16 matrix products, from the makers' data sheets; the price is a round figure, to be replaced."""

    name: str
    tflops: float
    memory_gb: int
    usd_per_hour: float


_KNOWN_GPUS = (
    Gpu(name="B200", tflops=2250.0, memory_gb=180, usd_per_hour=5.0),
    Gpu(name="H200", tflops=989.4, memory_gb=141, usd_per_hour=3.5),
    Gpu(name="H100", tflops=989.4, memory_gb=80, usd_per_hour=2.5),
    Gpu(name="A100", tflops=312.0, memory_gb=80, usd_per_hour=1.5),
    Gpu(name="A800", tflops=312.0, memory_gb=80, usd_per_hour=1.5),
    Gpu(name="L40S", tflops=362.0, memory_gb=48, usd_per_hour=1.0),
    Gpu(name="RTX4090", tflops=165.2, memory_gb=24, usd_per_hour=0.5),
)
GPUS: Mapping[str, Gpu] = {gpu.name: gpu for gpu in _KNOWN_GPUS}


def find_gpus(names: tuple[str, ...], prices: Mapping[str, float]) -> list[Gpu]:
    """The GPUs of these names, all if there are none, with given prices in place of the table's."""
    for name in (*names, *prices):
        if name not in GPUS:
            raise ConfigError(f"GPU {name!r} is not listed: give one of {', '.join(GPUS)}")
    chosen = [GPUS[name] for name in names] or list(GPUS.values())
    return [replace(gpu, usd_per_hour=prices.get(gpu.name, gpu.usd_per_hour)) for gpu in chosen]


_SECONDS_PER_HOUR, _SECONDS_PER_MINUTE = 3600, 60
_GIGA, _TERA, _PETA = 1e9, 1e12, 1e15


def plan_json(plan: RunPlan, gpus: list[Gpu], probe: Probe | None) -> dict[str, Any]:
    """The plan as one JSON object."""
    cost = plan.cost
    return {
        "manifest": plan.manifest,
        "output": plan.output,
        "rows": plan.rows,
        "valid": plan.rows - plan.invalid,
        "invalid": plan.invalid,
        "invalid_reasons": dict(plan.reason_counts),
        "done": plan.done,
        "failed_before": plan.failed_before,
        "groups": [
            {"task": group.task, "size": group.size, "rows": group.rows, "flops": group.cost.flops}
            for group in plan.groups.values()
        ],
        "tokens": cost.num_tokens,
        "flops": cost.flops,
        "is_at_most": _is_at_most(plan),
        "images": plan.images,
        "segments": plan.segments,
        "segment_rows": plan.segment_rows,
        "objects": plan.objects,
        "bytes": plan.bytes,
        "memory_bytes": plan.memory_bytes,
        "assumed_sizes": plan.assumed_sizes,
        "is_estimated": plan.is_estimated,
        "gpus": [
            {"name": gpu.name, "hours": hours, "usd": round(hours * gpu.usd_per_hour, 2)}
            for gpu, hours in ((gpu, gpu_hours(plan, gpu)) for gpu in gpus)
        ],
        "probe": None if probe is None else {**asdict(probe), "run_seconds": probed_seconds(plan, probe)},
    }


def plan_lines(plan: RunPlan, gpus: list[Gpu], probe: Probe | None, *, num_workers: int = 1) -> Iterator[str]:
    """The plan in lines; ``num_workers`` are those that the run would have."""
    yield f"{plan.manifest}: {plan.rows} rows, {plan.rows - plan.invalid} valid, {plan.invalid} invalid"
    for group in plan.groups.values():
        share = group.cost.flops / plan.cost.flops if plan.cost.flops else 0.0
        yield f"  {group.task:<20} {group.size:<10} {group.rows:>10,} rows  {share:>6.1%} of the compute"
    for reason in plan.reasons[:5]:
        yield f"  row {reason.row} ({reason.id}), {reason.stage}: {reason.message}"
    if plan.invalid > 5:
        counts = ", ".join(f"{count} {reason}" for reason, count in plan.reason_counts.items())
        yield f"  … {plan.invalid} invalid in all: {counts}"
    peta_flops = plan.cost.flops / _PETA
    shown = f"{peta_flops:,.3f}" if peta_flops >= 1 else f"{peta_flops:.3g}"
    most = "at most " if _is_at_most(plan) else ""
    yield f"{most}{plan.cost.num_tokens:,} tokens through the model, {most}{shown} PFLOP"
    if any(group.may_skip for group in plan.groups.values()):
        yield "  an upper bound: where the model is confident, it commits early and takes fewer steps"
    if any(map(_has_answers, plan.groups.values())):
        yield "  answers are counted at full length; those that end early cost less"
    if plan.is_estimated:
        yield "  prompt lengths are estimated, the checkpoint's defaults unknown: the model is not on this machine"
    if plan.assumed_sizes:
        yield f"  {plan.assumed_sizes} input images on S3 are assumed square; read their sizes with --images"
    measured = "" if probe else ", rough estimate; measure with --probe N"
    yield f"{plan.objects:,} objects ({plan.images:,} images), about {plan.bytes:,} bytes{measured}: {plan.output}"
    if plan.done or plan.failed_before:
        yield f"  committed: {plan.done} rows done, {plan.failed_before} failed; {plan.remaining_ratio:.0%} remains"
    sizes = ", ".join(f"{size_words(size)} in {dtype}" for dtype, size in plan.memory_bytes.items())
    yield f"memory per worker, with full batches: {sizes}"
    if probe is not None:
        others = f", not of {num_workers} workers" if num_workers > 1 else ""
        yield (
            f"this machine: {duration(probed_seconds(plan, probe))} for what is left, from {probe.rows} rows at "
            f"{_rate_words(probe.flops_per_s)}; in one process{others}"
        )
    yield from _gpu_lines(plan, gpus)


def _is_at_most(plan: RunPlan) -> bool:
    """Whether a run may take less than is counted."""
    return any(group.may_skip or _has_answers(group) for group in plan.groups.values())


def _has_answers(group: Group) -> bool:
    """Whether its rows make texts, whose length is not known before."""
    return group.task in TASKS and TASKS[group.task].of_kind.makes_text


def _rate_words(flops_per_s: float) -> str:
    return f"{flops_per_s / _TERA:,.2f} TFLOP/s" if flops_per_s >= _TERA / 10 else f"{flops_per_s / _GIGA:,.1f} GFLOP/s"


def _gpu_lines(plan: RunPlan, gpus: list[Gpu]) -> Iterator[str]:
    """What is left on each GPU; no table where nothing is, or where the slowest needs less than a minute."""
    slowest = max((gpu_hours(plan, gpu) for gpu in gpus), default=0.0)
    if not slowest:
        return
    if slowest * _SECONDS_PER_HOUR < _SECONDS_PER_MINUTE:
        yield f"Remaining: under 1 minute on {_any_of(gpus)} (at {USED_SHARE:.0%} of peak)"
        return
    yield f"Remaining on one GPU (at {USED_SHARE:.0%} of peak):"
    for gpu in gpus:
        hours = gpu_hours(plan, gpu)
        price = f"{hours * gpu.usd_per_hour:>10,.2f} USD at {gpu.usd_per_hour:g} per hour"
        yield f"  {gpu.name:<8} {gpu.memory_gb:>4} GB {time_words(hours):>14} {price}"


def _any_of(gpus: list[Gpu]) -> str:
    return "any listed GPU" if len(gpus) > 1 else gpus[0].name


def time_words(hours: float) -> str:
    """Hours, or what is shorter in minutes or seconds."""
    if hours >= 1:
        return f"{hours:,.1f} h"
    seconds = hours * _SECONDS_PER_HOUR
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.2g} s"


def gpu_hours(plan: RunPlan, gpu: Gpu) -> float:
    """Hours of one such GPU for what is left."""
    return plan.cost.flops * plan.remaining_ratio / (gpu.tflops * _TERA * USED_SHARE) / _SECONDS_PER_HOUR


def probed_seconds(plan: RunPlan, probe: Probe) -> float:
    """Seconds that this machine takes for what is left."""
    return plan.cost.flops * plan.remaining_ratio / probe.flops_per_s
