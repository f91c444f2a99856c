"""A run whose ``run.json`` is lost. Its parts repeat the digest of all that decides results, so they know it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dimoo_core.errors import ConfigError
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
