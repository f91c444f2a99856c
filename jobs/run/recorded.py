"""What a run was started with, taken from its ``run.json`` instead of from a person.

Where ``run.json`` is lost, the parts of the run repeat the digest of all that decides results, so they identify it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dimoo_core.errors import ConfigError
from dimoo_core.presets import find_preset
from jobs.spec.spec import JobSpec
from pipeline.output.directory import PartOrigin, RunDirectory, results_digest


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


def way_of_working(spec: JobSpec) -> dict[str, Any]:
    """For ``run.json``: what a later command on the same run takes over, beside what decides its results."""
    return {
        "adapter": spec.adapter,
        **spec.model_dump(mode="json", include={*SECTIONS, "passthrough", "worker_hour_usd"}),
    }


def recorded_adapter(description: Mapping[str, Any], output_uri: str) -> str | None:
    """The name of the run's adapter.

    Raises:
        ConfigError: It had one and does not say where it is.
    """
    adapter: str | None = description.get("job", {}).get("adapter")
    if description["results"].get("adapter_digest") is not None and adapter is None:
        raise ConfigError(f"the run at {output_uri} had an adapter and did not record where it is: it cannot be found")
    return adapter


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
