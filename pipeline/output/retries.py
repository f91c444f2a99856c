"""Which retries of failed rows a run has seen: one small object for each, ``_retries/<number>.json``.

Written before a retry's first part and again at its end. It holds nothing about rows, which parts do: by it the
same command, after a crash, resumes a retry instead of beginning another.
"""

import json
import re
from dataclasses import asdict, dataclass, replace

from manifests.errors import FAILURE_CLASSES, FailureClass
from pipeline.storage.base import Store
from pipeline.storage.errors import StoreError

RETRIES_PREFIX = "_retries/"
_KEY = re.compile(r"_retries/(?P<number>\d{6,})\.json")


@dataclass(frozen=True, slots=True)
class SegmentRetry:
    """What a worker has to know to run rows of a committed segment again.

    Attributes:
        classes: Failures of these are tried again; others stay as they are.
        after: Which of the segment's retries its last part is from; 0 is the segment's own part.
    """

    number: int
    classes: tuple[FailureClass, ...]
    after: int
    num_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetry:
    """One retry of a run."""

    number: int
    classes: tuple[FailureClass, ...]
    started_at: str
    has_ended: bool = False


class RetryRecords:
    """The retries of one run."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def latest(self) -> RunRetry | None:
        """The last retry that was begun; None if there was none.

        Raises:
            StoreError: Code ``DamagedRetry`` if what is there is no record.
        """
        numbers = (int(match["number"]) for key in self._store.list(RETRIES_PREFIX) if (match := _KEY.fullmatch(key)))
        number = max(numbers, default=0)
        if not number:
            return None
        key = _key(number)
        try:
            found = json.loads(self._store.get(key))
            classes = tuple(name for name in FAILURE_CLASSES if name in found["classes"])
            return RunRetry(
                number=number,
                classes=classes,
                started_at=str(found["started_at"]),
                has_ended=found["has_ended"] is True,
            )
        except (ValueError, TypeError, KeyError) as error:
            hint = "run dimoo-batch verify for details; delete it to begin another retry"
            raise StoreError("read", self._store.uri_of(key), "DamagedRetry", hint) from error

    def begin(self, retry: RunRetry) -> None:
        """Record that a retry begins; again if a crash followed, since the epoch makes this driver the only one."""
        self._put(retry)

    def end(self, retry: RunRetry) -> None:
        """Record that every row of a retry has its new result."""
        self._put(replace(retry, has_ended=True))

    def _put(self, retry: RunRetry) -> None:
        self._store.put_json(_key(retry.number), asdict(retry), indent=2)


def _key(number: int) -> str:
    return f"{RETRIES_PREFIX}{number:06d}.json"
