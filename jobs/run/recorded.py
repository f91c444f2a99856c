"""What a run was started with, taken from its ``run.json`` instead of from a person.

Where ``run.json`` is lost, the parts of the run repeat the digest of all that decides results, so they identify it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from dimoo_core.errors import ConfigError
from dimoo_core.presets import find_preset
from dimoo_core.settings import EngineConfig
from jobs.spec.spec import JobSpec
from manifests.row.settings import RowDefaults
from pipeline.output.directory import PartOrigin, RunDirectory, results_digest
from pipeline.protocol.settings import HookSettings, RunSettings
from pipeline.rows.hooks import hook_digest


@dataclass(frozen=True, slots=True)
class LostDescription:
    """What a part says of its run.

    Attributes:
        uri: Of the output.
        origin: Of the first part that can be read.
    """

    uri: str
    origin: PartOrigin

    @classmethod
    def of(cls, run: RunDirectory) -> "LostDescription | None":
        """None if the run has committed nothing, so that nothing is lost.

        Raises:
            ConfigError: No part can be read.
        """
        if not run.has_parts():
            return None
        if (origin := run.first_origin()) is None:
            raise ConfigError(
                f"{run.store.uri} holds parts of a run but no run.json, and none can be read: choose another --output"
            )
        return cls(run.store.uri, origin)

    def results(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """What decides the results of this start, cut into segments as the parts are.

        Raises:
            ConfigError: The parts are of other settings, or of another manifest.
        """
        for segment_rows in (now["segment_rows"], self.origin.num_rows):
            results = {**now, "segment_rows": segment_rows}
            if results_digest(results) == self.origin.run_digest:
                return results
        raise ConfigError(
            f"{self.uri} holds parts of a run but no run.json, and they are not of this manifest with these settings: "
            "give the command that the run was started with, which writes run.json again, or choose another --output"
        )


SECTIONS = ("sources", "engine", "pipeline", "failures", "worker_life")
"""Sections of the spec that decide how a run works and not what it makes, recorded as they were at its first start."""

_OF_RESULTS = (
    "seed",
    "input_resolution",
    "image_to_image_resolution",
    "tokenize_resolution",
    "random_crop",
    "image_to_image_random_crop",
    "tokenize_random_crop",
    "match_question",
    "image_format",
    "image_quality",
)


def way_of_working(spec: JobSpec) -> dict[str, Any]:
    """For ``run.json``: what a later command on the same run takes over, beside what decides its results."""
    return {
        "adapter": spec.adapter,
        **spec.model_dump(mode="json", include={*SECTIONS, "passthrough", "worker_hour_usd"}),
    }


def recorded_settings(description: Mapping[str, Any], output_uri: str) -> RunSettings:
    """The settings that decide results, as recorded; how many rows are in hand at once is left to its defaults.

    Raises:
        ConfigError: The run had an adapter and does not say where it is, a hook is not what it was, or the run was made
            by a version that had other settings.
    """
    results: Mapping[str, Any] = description["results"]
    adapter = description.get("job", {}).get("adapter")
    if results.get("adapter_digest") is not None and adapter is None:
        raise ConfigError(f"the run at {output_uri} had an adapter and did not record where it is: it cannot be found")
    defaults = TypeAdapter(RowDefaults).validate_python(results["defaults"])
    if unknown := sorted(_unknown_keys(results["defaults"], asdict(defaults))):
        raise ConfigError(
            f"the run at {output_uri} was made by another version of dimoo-batch: this one has no setting {unknown[0]}"
        )
    return RunSettings(
        model=str(description["model"]),
        adapter=adapter,
        device=results["device"],
        dtype=results["dtype"],
        defaults=defaults,
        hooks=_recorded_hooks(results),
        output_uri=output_uri,
        engine=EngineConfig(batch_invariance=results["batch_invariance"], compile=results.get("compile", False)),
        **{name: results[name] for name in _OF_RESULTS if name in results},
    )


def check_preset(description: Mapping[str, Any], name: str, output_uri: str) -> None:
    """Make sure that a preset means what it meant to the run.

    Raises:
        ConfigError: It does not.
    """
    then = description["results"].get("presets", {}).get(name)
    if then is not None and then | {"meaning": ""} != asdict(find_preset(name)) | {"meaning": ""}:
        raise ConfigError(
            f"preset {name!r} means something else than when the run at {output_uri} was made: use the version of "
            "dimoo-batch that made it"
        )


def _unknown_keys(recorded: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of what was recorded and is not known, but for what was empty."""
    for key, value in recorded.items():
        if key not in known:
            yield from (f"{prefix}{key}",) if value else ()
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping):
            yield from _unknown_keys(value, known[key], f"{prefix}{key}.")


def _recorded_hooks(results: Mapping[str, Any]) -> HookSettings:
    """The hooks that the run called.

    Raises:
        ConfigError: One is no longer what it was.
    """
    found = results.get("hooks")
    if found is None:
        return HookSettings()
    for name, digest_then in found["digests"].items():
        if hook_digest(name) != digest_then:
            raise ConfigError(f"hook {name!r} is not what the run used: its file has changed")
    return HookSettings(
        rows=tuple(found["rows"]),
        results=tuple(found["results"]),
        scores=found["scores"],
        min_scores=found["min_scores"],
    )
