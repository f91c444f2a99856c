"""What a run is: what decides its results, as ``run.json`` and as the job spec name it, and its segments."""

import difflib
import importlib.metadata
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from dimoo_core.checkpoint.locate import Checkpoint, digest, find_checkpoint
from dimoo_core.errors import ConfigError
from dimoo_core.presets import PRESETS
from dimoo_core.settings import BatchInvariance, EngineConfig
from jobs.spec.spec import JobSpec
from pipeline.manifest import ManifestSource
from pipeline.protocol.settings import FlushPolicy, HookSettings, RunSettings
from pipeline.rows.hooks import hook_digest


def settings_of_work(spec: JobSpec, *, batch_invariance: BatchInvariance, compile: bool) -> dict[str, Any]:
    """Fields of ``RunSettings``; what of the engine decides results is given apart, a retry has it from its run."""
    engine = dict(spec.engine) | {"batch_invariance": batch_invariance, "compile": compile}
    return {
        "sources": spec.sources.policy(),
        "engine": EngineConfig(**engine, max_request_s=spec.failures.row_timeout_s),
        "max_rows_in_flight": spec.pipeline.max_rows_in_flight,
        "fetch_threads": spec.pipeline.fetch_threads,
        "store_threads": spec.pipeline.store_threads,
        "failures": spec.failures.policy(),
        "life": spec.worker_life.life(),
        "flush": FlushPolicy(rows=spec.pipeline.flush_rows, seconds=spec.pipeline.flush_s),
    }


_DEFAULTS = "defaults."
_AS_SET = {
    "batch_invariance": "engine.batch_invariance",
    "compile": "engine.compile",
    "image_format": "image.format",
    "image_quality": "image.quality",
    "image_to_image_random_crop": "image_to_image.random_crop",
    "image_to_image_resolution": "image_to_image.resolution",
    "input_resolution": "understanding.resolution",
    "match_question": "understanding.match_question",
    "random_crop": "understanding.random_crop",
    "segment_rows": "pipeline.segment_rows",
    "tokenize_random_crop": "tokenize.random_crop",
    "tokenize_resolution": "tokenize.resolution",
}
_FIELDS_AS_SET = {"height_px": "height", "num_steps": "steps", "width_px": "width"}
_OPTIONAL = ("compile", "hooks")  # in run.json only where they are used
_INTERNAL = tuple(f"defaults.explicit_{section}" for section in ("text_to_image", "image_to_image", "understanding"))


def key_as_set(key: str) -> str:
    """The key of the job spec behind a dotted one of ``results``; the same key where the spec has none."""
    if not key.startswith(_DEFAULTS) or key in _INTERNAL:
        return _AS_SET.get(key, key)
    *sections, name = key.removeprefix(_DEFAULTS).split(".")
    return ".".join([*sections, _FIELDS_AS_SET.get(name, name)])


def is_named(key: str, names: Iterable[str]) -> bool:
    """Whether one of these is the key or the beginning of it, in either form."""
    forms = (key, key_as_set(key))
    return any(form == name or form.startswith(f"{name}.") for form in forms for name in names)


def check_names(names: Iterable[str], *results: Mapping[str, Any]) -> None:
    """Refuse names that are no key of these results, nor the beginning of one.

    Raises:
        ConfigError: One is none; names the nearest.
    """
    known = {form for key in _keys(*results) for form in _beginnings(key)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            sections = sorted({key_as_set(key).partition(".")[0] for key in _keys(*results)})
            hint = f"did you mean {near[0]!r}" if near else f"known: {', '.join(sections)}"
            raise ConfigError(f"--accept-change {name}: nothing that decides results has this name; {hint}")


def _keys(*results: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    yield from () if prefix else _OPTIONAL
    for each in results:
        for key, value in each.items():
            yield f"{prefix}{key}"
            if isinstance(value, Mapping):
                yield from _keys(value, prefix=f"{prefix}{key}.")


def _beginnings(key: str) -> Iterator[str]:
    for form in (key, key_as_set(key)):
        parts = form.split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


_MAX_SEGMENT_ROWS = 64
_SEGMENTS_PER_WORKER = 4  # of a small manifest, so that every worker gets some


def segment_rows_of(num_rows: int, num_workers: int, before: Mapping[str, Any] | None) -> int:
    """As in the first start; else small enough that every worker gets some segments."""
    if before is not None and isinstance(size := before.get("results", {}).get("segment_rows"), int):
        return size
    return max(1, min(_MAX_SEGMENT_ROWS, math.ceil(num_rows / (_SEGMENTS_PER_WORKER * max(1, num_workers)))))


def what_hooks_decide(hooks: HookSettings) -> dict[str, Any]:
    """Which hooks a run calls in which order, and what their files hold.

    Raises:
        ConfigError: One cannot be imported.
    """
    return {
        "rows": list(hooks.rows),
        "results": list(hooks.results),
        "scores": dict(hooks.scores),
        "min_scores": dict(hooks.min_scores),
        "digests": {name: hook_digest(name) for name in hooks.names},
    }


def what_decides_results(
    spec: JobSpec, source: ManifestSource, checkpoint: Checkpoint, settings: RunSettings, segment_rows: int
) -> dict[str, Any]:
    """Everything that a resume must not change, in JSON's types."""
    decides = {
        "manifest_fingerprint": source.fingerprint,
        "model_digest": digest(checkpoint.directory),
        "adapter_digest": digest(find_checkpoint(spec.adapter).directory) if spec.adapter is not None else None,
        "limit": spec.limit,
        "segment_rows": segment_rows,
        "seed": settings.seed,
        "device": settings.device.partition(":")[0],
        "dtype": settings.dtype,
        "defaults": asdict(settings.defaults),
        "presets": {name: asdict(preset) for name, preset in PRESETS.items()},
        "input_resolution": settings.input_resolution,
        "image_to_image_resolution": settings.image_to_image_resolution,
        "tokenize_resolution": settings.tokenize_resolution,
        "random_crop": settings.random_crop,
        "image_to_image_random_crop": settings.image_to_image_random_crop,
        "tokenize_random_crop": settings.tokenize_random_crop,
        "match_question": settings.match_question,
        "image_format": settings.image_format,
        "image_quality": settings.image_quality,
        "batch_invariance": settings.engine.batch_invariance,
        "versions": {name: importlib.metadata.version(name) for name in ("dimoo-batch", "torch", "pillow")},
    }
    if settings.engine.compile:
        decides["compile"] = True
    if settings.hooks.names:
        decides["hooks"] = what_hooks_decide(settings.hooks)
    in_json: dict[str, Any] = json.loads(json.dumps(decides))
    return in_json
