"""Segments that a worker was processing when it died, and which of their rows was alone with it: kept on the store.

One small object for each such segment, ``_suspects/<segment>.json``, from the first death to its commit. So a poison
row is known to the next driver too, whatever ended the one that saw it.
"""

import json
import threading
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

from manifests.errors import FailureClass
from pipeline.storage.base import Store
from pipeline.storage.errors import AccessDenied, ObjectNotFound
from pipeline.storage.retry import RetryPolicy

POISON_PREFIX = "_suspects/"
_CLASSES: dict[str, FailureClass] = {"crash": "crash", "engine": "engine", "timeout": "timeout"}


@dataclass(frozen=True, slots=True)
class CrashHistory:
    """What is held against the rows of a segment.

    Attributes:
        deaths: Rows that were alone with a worker when it died, with how often.
        running: The row that is alone with a worker now, if any.
        reason: How the last worker died.
        failure_class: ``crash``, ``engine`` if it was the engine that failed, ``timeout`` if the worker hung.
    """

    deaths: Mapping[int, int] = field(default_factory=dict)
    running: int | None = None
    reason: str = "the process that ran it ended"
    failure_class: FailureClass = "crash"

    def after_death(self, reason: str, failure_class: FailureClass = "crash") -> "CrashHistory":
        """One more worker has died with the segment."""
        deaths = dict(self.deaths)
        if self.running is not None:
            deaths[self.running] = deaths.get(self.running, 0) + 1
        return CrashHistory(deaths, None, reason, failure_class)

    def is_quarantined(self, row: int, max_tries: int) -> bool:
        """Whether a row has had its tries: one among others, when the segment was first recorded, and those alone."""
        alone = self.deaths.get(row, 0)
        return alone > 0 and 1 + alone >= max_tries


class PoisonRecord:
    """The poison segments of one run. Threads and processes may share it: each segment has one writer at a time."""

    def __init__(self, store: Store, retry_policy: RetryPolicy | None = None) -> None:
        self._store = store
        self._retry_policy = retry_policy or RetryPolicy(threading.Event())

    def all(self) -> dict[str, CrashHistory]:
        """Every suspicion, by the name of its segment; there are few."""
        keys = list(self._store.list(POISON_PREFIX))
        names = [key.removeprefix(POISON_PREFIX).removesuffix(".json") for key in keys]
        return {name: found for name in names if (found := self.of(name)) is not None}

    def resume(self, committed: Container[str]) -> dict[str, CrashHistory]:
        """What a start has to know: suspicions of segments that are not committed; the others are cleared.

        Nothing runs now, so a row that ran when the last driver ended is held responsible for nothing.
        """
        poison_segments: dict[str, CrashHistory] = {}
        for name, found in self.all().items():
            if name in committed:
                self.clear(name)
                continue
            poison_segments[name] = replace(found, running=None)
            if found.running is not None:
                self.put(name, poison_segments[name])
        return poison_segments

    def of(self, segment_name: str) -> CrashHistory | None:
        """What is held against a segment; None if nothing is. What cannot be read counts as a first suspicion."""
        try:
            found = json.loads(self._retry_policy.retry(lambda: self._store.get(_key(segment_name))))
            deaths = {int(row): int(times) for row, times in found["deaths"].items()}
            running = found["running"] if isinstance(found["running"], int) else None
            failure_class = _CLASSES.get(found["failure_class"], "crash")
            return CrashHistory(deaths, running, str(found["reason"]), failure_class)
        except ObjectNotFound:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            return CrashHistory()

    def put(self, segment_name: str, crash_history: CrashHistory) -> None:
        """Remember a suspicion; it is durable when this returns."""
        self._retry_policy.retry(lambda: self._store.put_json(_key(segment_name), asdict(crash_history)))

    def clear(self, segment_name: str) -> None:
        """The segment is committed, or was handed back by a worker that is well."""
        with suppress(AccessDenied):  # where nothing may be deleted the record stays, and is no use to anybody
            self._retry_policy.retry(lambda: self._store.delete(_key(segment_name)))


def _key(segment_name: str) -> str:
    return f"{POISON_PREFIX}{segment_name}.json"
