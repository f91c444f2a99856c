"""What a start does with an output that holds a run with other settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dimoo_core.errors import ConfigError
from pipeline.run_directory import RunDirectory, differences
from pipeline.store import open_store

_FIXED = ("image_format", "limit", "segment_rows")
"""Keys that name parts and images or say how many there are: a run cannot go on with others."""

_MAX_OUTPUTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeChoice:
    """How much may have changed since a run was started.

    Attributes:
        accepted: Keys, or beginnings of dotted keys, that may differ; rows not yet done get the new values.
        is_new_run: Whether a run with other settings is left alone and a new one begun beside it.
    """

    accepted: tuple[str, ...] = ()
    is_new_run: bool = False

    def check(
        self, results: Mapping[str, Any], num_rows: int, found: Mapping[str, Any], run: RunDirectory
    ) -> list[str]:
        """Go on only if nothing differs but what may.

        Args:
            results: What decides the results of this start.
            num_rows: Its rows.
            found: The run's description.
            run: Where it lies.

        Returns:
            What differs and is accepted, as ``key: there, now``.

        Raises:
            ConfigError: Something differs that may not; names all of it.
        """
        changed = differences(results, found.get("results", {}))
        refused = [line for line in changed if not self._accepts(_key(line))]
        if refused:
            anew = "" if run.has_parts() else ", or delete its run.json, since it has committed nothing"
            flags = " ".join(f"--accept-change {_key(line)}" for line in refused if _key(line) not in _FIXED)
            go_on = f", go on with {flags}" if flags else ""
            raise ConfigError(
                f"{run.store.uri} holds a run with other settings ({'; '.join(refused)}): choose another --output, "
                f"give the settings it was started with{go_on}, begin anew beside it with --new-run{anew}"
            )
        if fixed := [line for line in changed if _key(line) in _FIXED]:
            raise ConfigError(
                f"{run.store.uri} holds a run that cannot go on with other values of {'; '.join(fixed)}: they name its "
                "parts and images; begin anew with --new-run"
            )
        if any(_key(line) == "manifest_fingerprint" for line in changed) and found.get("rows") != num_rows:
            raise ConfigError(
                f"{run.store.uri} holds a run of {found.get('rows')} rows, the manifest has {num_rows} now: rows are "
                "known by their numbers, so their count cannot change; begin anew with --new-run"
            )
        return changed

    def _accepts(self, key: str) -> bool:
        return any(key == name or key.startswith(f"{name}.") for name in self.accepted)


def outputs_beside(uri: str) -> Iterator[str]:
    """The output, and those beside it that a new run may take: ``out``, ``out-2``, ``out-3``…"""
    base = uri.rstrip("/")
    yield base
    for number in range(2, _MAX_OUTPUTS):
        yield f"{base}-{number}"


def output_of_new_run(uri: str, results: Mapping[str, Any]) -> str:
    """The first output that is free, or holds this very run, which then goes on: the same command is the same run.

    Raises:
        ConfigError: There is none.
    """
    for candidate in outputs_beside(uri):
        run = RunDirectory(open_store(candidate))
        found = run.description()
        if found is None and not run.has_parts():
            return candidate
        if found is not None and not differences(_as_cut(results, found), found.get("results", {})):
            return candidate
    raise ConfigError(f"{_MAX_OUTPUTS} runs lie at {uri} and beside it: choose another --output")


def _as_cut(results: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The results, cut into segments as a run that was found."""
    return {**results, "segment_rows": found.get("results", {}).get("segment_rows")}


def _key(difference: str) -> str:
    return difference.partition(":")[0]
