"""What a run is: what decides its results, as ``run.json`` and as the job spec name it, and its segments."""

import importlib.metadata
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from dimoo_core.checkpoint.locate import Checkpoint, digest, find_checkpoint
from dimoo_core.errors import ConfigError
from dimoo_core.presets import PRESETS
from jobs.spec.result_keys import values_of
from jobs.spec.spec import JobSpec
from pipeline.manifest import ManifestSource
from pipeline.protocol.settings import ResultSettings, RunSettings


def run_settings(spec: JobSpec, results: ResultSettings, model: str, output_uri: str) -> RunSettings:
    """What workers are told: how to make these results, and in what way, as the spec says."""
    return RunSettings(
        results=results,
        model=model,
        adapter=spec.adapter,
        output_uri=output_uri,
        sources=spec.sources,
        engine=replace(spec.engine, batch_invariance=results.batch_invariance, compile=results.compile),
        pipeline=spec.pipeline,
        failures=spec.failures,
        life=spec.worker_life,
    )


_MAX_SEGMENT_ROWS = 64
_SEGMENTS_PER_WORKER = 4  # of a small manifest, so that every worker gets some


def segment_rows_of(num_rows: int, num_workers: int, before: Mapping[str, Any] | None) -> int:
    """As in the first start; else small enough that every worker gets some segments."""
    if before is not None and isinstance(size := before.get("results", {}).get("segment_rows"), int):
        return size
    return max(1, min(_MAX_SEGMENT_ROWS, math.ceil(num_rows / (_SEGMENTS_PER_WORKER * max(1, num_workers)))))


def what_decides_results(
    spec: JobSpec, source: ManifestSource, checkpoint: Checkpoint, settings: ResultSettings, segment_rows: int
) -> dict[str, Any]:
    """Everything that a resume must not change, in JSON's types."""
    decides = {
        "manifest_fingerprint": source.fingerprint,
        "model_digest": digest(checkpoint.directory),
        "adapter_digest": digest(find_checkpoint(spec.adapter).directory) if spec.adapter is not None else None,
        "limit": spec.limit,
        "segment_rows": segment_rows,
        "presets": {name: asdict(preset) for name, preset in PRESETS.items()},
        "versions": {name: importlib.metadata.version(name) for name in ("dimoo-batch", "torch", "pillow")},
    }
    in_json: dict[str, Any] = json.loads(json.dumps(decides | values_of(settings)))
    return in_json


def check_version(description: Mapping[str, Any], uri: str) -> None:
    """Refuse to continue a run of a version whose runs this one cannot continue.

    Raises:
        ConfigError: It was begun by 0.1; says what to do.
    """
    version = str(description.get("results", {}).get("versions", {}).get("dimoo-batch", ""))
    if version.startswith("0.1."):
        raise ConfigError(
            f"the run at {uri} was begun by dimoo-batch {version}, and one run does not mix results of both: finish it "
            f"with that version (pip install dimoo-batch=={version}), or begin a new one with --new-run or another "
            "--output; verify, status, report and export read it as it is"
        )
