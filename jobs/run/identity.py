"""What a run is: what decides its results, as ``run.json`` and as the job spec name it, and its segments."""

import importlib.metadata
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from dimoo_core.checkpoint.locate import Checkpoint, digest, find_checkpoint
from dimoo_core.errors import ConfigError
from dimoo_core.presets import PRESETS, find_preset
from jobs.spec.result_keys import values_of
from jobs.spec.spec import JobSpec
from pipeline.manifest import ManifestSource
from pipeline.output.directory import RunDirectory, results_digest
from pipeline.protocol.settings import ResultSettings, RunSettings


def run_settings(spec: JobSpec, results: ResultSettings, model: str, output_uri: str) -> RunSettings:
    """The workers' settings: these results, and the spec's settings of execution."""
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
    """Refuse to continue a run of a version whose runs this one cannot continue."""
    version = str(description.get("results", {}).get("versions", {}).get("dimoo-batch", ""))
    if version.startswith("0.1."):
        raise ConfigError(
            f"the run at {uri} was started by dimoo-batch {version} and this version cannot resume it: finish it "
            f"with that version (pip install dimoo-batch=={version}), or start a new run with --new-run or another "
            "--output; verify, status, report and export can read it"
        )


def results_without_description(run: RunDirectory, now: Mapping[str, Any]) -> dict[str, Any] | None:
    """What decides the results ``now``, cut into segments as the parts of a run that has lost its ``run.json``.

    None if there are no parts.
    """
    if not run.has_parts():
        return None
    if (origin := run.first_origin()) is None:
        raise ConfigError(
            f"{run.store.uri} holds parts of a run but no run.json, and none can be read: choose another --output"
        )
    for segment_rows in (now["segment_rows"], origin.num_rows):
        results = {**now, "segment_rows": segment_rows}
        if results_digest(results) == origin.run_digest:
            return results
    raise ConfigError(
        f"{run.store.uri} holds parts of a run but no run.json, and they are not of this manifest with these settings: "
        "re-run the command that the run was started with, which writes run.json again, or choose another --output"
    )


SECTIONS = ("sources", "engine", "pipeline", "failures", "worker_life")
"""Sections of the spec that decide how a run works and not what it makes, recorded as they were at its first start."""


def way_of_working(spec: JobSpec) -> dict[str, Any]:
    """For ``run.json``: what a later command on the same run takes over, beside what decides its results."""
    return {
        "adapter": spec.adapter,
        **spec.model_dump(mode="json", include={*SECTIONS, "passthrough", "worker_hour_usd"}),
    }


def check_adapter(description: Mapping[str, Any], output_uri: str) -> None:
    """Refuse a run whose adapter cannot be found."""
    has_adapter = description["results"].get("adapter_digest") is not None
    if has_adapter and description.get("job", {}).get("adapter") is None:
        raise ConfigError(f"the run at {output_uri} used an adapter and did not record its place: it cannot be found")


def check_preset(description: Mapping[str, Any], name: str, output_uri: str) -> None:
    """Make sure that a preset means what it meant to the run."""
    then = description["results"].get("presets", {}).get(name)
    if then is not None and then | {"meaning": ""} != asdict(find_preset(name)) | {"meaning": ""}:
        raise ConfigError(
            f"preset {name!r} has changed since the run at {output_uri} was made: use the version of "
            "dimoo-batch that made it"
        )
