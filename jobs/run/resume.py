"""What a start does with an output that holds a run with other settings."""

import logging
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dimoo_core.errors import ConfigError
from jobs.spec.result_keys import check_names, is_named, key_as_set
from pipeline.output.directory import RunDirectory, differences
from pipeline.storage.reader import open_store

log = logging.getLogger("dimoo_batch.jobs")

_FIXED = ("image_format", "limit", "segment_rows")
"""Keys that name parts and images or set how many there are: a run cannot continue with others."""

_MANIFEST = "manifest_fingerprint"
_MAX_OUTPUTS, _MAX_TOLD, _MAX_VALUES = 1000, 6, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeOptions:
    """How much may have changed since a run was started.

    Attributes:
        accepted: Keys, or beginnings of dotted keys, that may differ; rows not yet done get the new values.
        is_new_run: Whether a run with other settings is left alone and a new one begun beside it.
        is_retry: Whether failed rows are run again, so that there is no other output to choose.
    """

    accepted: tuple[str, ...] = ()
    is_new_run: bool = False
    is_retry: bool = False

    def accept(self, results: Mapping[str, Any], num_rows: int, found: Mapping[str, Any], run: RunDirectory) -> None:
        """Check, and note in the run what differs and is accepted."""
        if accepted := self.check(results, num_rows, found, run):
            log.info(f"continuing with changed settings: {words_of_changes(accepted, found.get('rows'), num_rows)}")
            run.note_changes(found, accepted)

    def check(
        self, results: Mapping[str, Any], num_rows: int, found: Mapping[str, Any], run: RunDirectory
    ) -> list[str]:
        """Continue only if nothing differs but what may: what is accepted now, or was at an earlier start.

        Args:
            results: What decides the results of this start.

        Returns:
            What differs and is accepted, as ``key: there, now``.
        """
        check_names(self.accepted, results, found.get("results", {}))
        changed = differences(results, found.get("results", {}))
        before = found.get("accepted_changes", [])
        refused = [line for line in changed if line not in before and not is_named(_key(line), self.accepted)]
        fixed = [line for line in changed if _key(line) in _FIXED]
        has_other_rows = any(_key(line) == _MANIFEST for line in changed) and found.get("rows") != num_rows
        if refused:
            told = words_of_changes(refused, found.get("rows"), num_rows)
            flags = [] if fixed or has_other_rows else [f"--accept-change {key_as_set(_key(line))}" for line in refused]
            raise ConfigError(f"{run.store.uri} holds a run with other settings ({told}): {self._ways_out(flags, run)}")
        anew = "" if self.is_retry else "; start a new run with --new-run"
        if fixed:
            told = words_of_changes(fixed, found.get("rows"), num_rows)
            raise ConfigError(
                f"{run.store.uri} holds a run that cannot continue with changed {told}: the names of its parts and "
                f"images depend on it{anew}"
            )
        if has_other_rows:
            raise ConfigError(
                f"{run.store.uri} holds a run of {found.get('rows')} rows, the manifest has {num_rows} now: rows "
                f"are identified by number, so their count cannot change{anew}"
            )
        return changed

    def _ways_out(self, flags: Sequence[str], run: RunDirectory) -> str:
        """What a person can do; only what works."""
        go_on = [f"continue with {' '.join(flags)}"] if flags else []
        if self.is_retry:
            given = "give the manifest and model it was started with (--manifest, --model)"
            return " or ".join([given, *go_on])
        given = "choose another --output, use the settings it was started with"
        anew = ["or start a new run beside it with --new-run"]
        if not run.has_parts():
            anew.append("or delete its run.json (no rows are committed)")
        return ", ".join([given, *go_on, *anew])


def words_of_changes(lines: Sequence[str], rows_then: object, rows_now: int) -> str:
    """Differences for people: keys as they are set, a manifest by its rows instead of by its fingerprint."""
    told = []
    for line in lines:
        key, _, values = line.partition(": ")
        if key == _MANIFEST:
            told.append(f"the manifest has changed: {rows_then} rows then, {rows_now} now")
        else:
            told.append(f"{key_as_set(key)}: {textwrap.shorten(values, _MAX_VALUES, placeholder=' …')}")
    more = f"; and {len(told) - _MAX_TOLD} more" if len(told) > _MAX_TOLD else ""
    return "; ".join(told[:_MAX_TOLD]) + more


def outputs_beside(uri: str) -> Iterator[str]:
    """The output, and those beside it that a new run may take: ``out``, ``out-2``, ``out-3``…"""
    base = uri.rstrip("/")
    yield base
    for number in range(2, _MAX_OUTPUTS):
        yield f"{base}-{number}"


def output_of_new_run(uri: str, results: Mapping[str, Any], as_found: Sequence[str] = ("segment_rows",)) -> str:
    """The first output that is free, or holds this very run, which then continues: the same command is the same run.

    Args:
        uri: As it was asked for.
        results: What decides the results of this start.
        as_found: Keys that a run which is found there decides.
    """
    for candidate in outputs_beside(uri):
        run = RunDirectory(open_store(candidate))
        found = run.description()
        if found is None and not run.has_parts():
            return candidate
        if found is not None:
            there = found.get("results", {})
            if not differences({**results, **{key: there.get(key) for key in as_found}}, there):
                return candidate
    raise ConfigError(f"{_MAX_OUTPUTS} runs exist at {uri} and beside it: choose another --output")


def _key(difference: str) -> str:
    return difference.partition(": ")[0]  # the name of a hook has a colon
