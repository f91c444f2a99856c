"""What a run is: everything that decides its results, and into which segments it is cut."""

import importlib.metadata
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dimoo_core.checkpoint.locate import Checkpoint, digest, find_checkpoint
from dimoo_core.presets import PRESETS
from jobs.spec.spec import JobSpec
from pipeline.manifest import ManifestSource
from pipeline.protocol.settings import HookSettings, RunSettings
from pipeline.rows.hooks import hook_digest

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
