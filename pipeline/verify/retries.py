"""Whether the parts of retries follow those before them: each has a result for just the rows that had failed there.

States the rules of docs/output.md independently of the code that writes. What a part keeps for the one after it is
its failures; memory is that of one part.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound
from pipeline.verify.failures import FAILURE_CLASSES
from pipeline.verify.finding import Finding
from pipeline.verify.part import PartAudit


class RetryAudit:
    """The retries of a run, and the check of its parts against them."""

    def __init__(self, store: Store, numbers: Iterable[int], tell: Callable[[Finding], None]) -> None:
        self._classes = {number: _read_record(store, number, tell) for number in sorted(numbers)}
        for expected, number in enumerate(self._classes, 1):
            if number != expected:
                tell(Finding(_key(expected), "object", f"the record of a retry before {_key(number)}", "nothing"))
                break

    def check(self, part: PartAudit, before: PartAudit | None) -> None:
        """Compare a retry's part with the one before it; findings go to the part's.

        Args:
            part: Its ``segment.retry`` is not 0.
            before: The part before it in the order of names.
        """
        name = part.segment
        is_next = before is not None and before.segment == name._replace(retry=name.retry - 1)
        if before is None or not is_next:
            part.tell("object", f"{name._replace(retry=name.retry - 1).part_key} before it", "nothing")
            return
        if part.is_unread or before.is_unread:
            return
        failed = {failure["row"]: failure for failure in before.failures}
        rows = {*part.done_rows, *(failure["row"] for failure in part.failures)}
        for row in sorted(rows ^ failed.keys()):
            if row in failed:
                part.tell(f"row {row}", "an outcome, since it has failed before", "none")
            else:
                part.tell(f"row {row}", "no outcome, since it has not failed before", "one")
        self._check_classes(part, failed)

    def _check_classes(self, part: PartAudit, failed: dict[int, dict[str, Any]]) -> None:
        """Rows that a retry was not about have failed as before."""
        if part.retry_number not in self._classes:
            expected = "the number of a retry that has a record in _retries/"
            part.tell("dimoo.retry", expected, "nothing" if part.retry_number is None else part.retry_number)
            return
        classes = self._classes[part.retry_number]
        if classes is None:
            return
        now = {failure["row"]: failure for failure in part.failures}
        for row, failure in failed.items():
            if failure["failure_class"] not in classes and now.get(row) != failure:
                what = f"row {row}, whose class {failure['failure_class']} was not retried"
                part.tell(what, json.dumps(failure), json.dumps(now.get(row, "done")))
            elif row in now and failure["failure_class"] in classes and now[row]["attempts"] <= failure["attempts"]:
                part.tell(f"attempts of row {row}", f"more than {failure['attempts']}", now[row]["attempts"])


def _read_record(store: Store, number: int, tell: Callable[[Finding], None]) -> set[str] | None:
    """The classes of a retry; None if its record does not have them."""
    key, expected = _key(number), "a retry's number, classes, started_at and has_ended"
    try:
        found = json.loads(store.get(key))
    except (ObjectNotFound, ValueError) as error:
        tell(Finding(key, "content", expected, type(error).__name__))
        return None
    is_record = (
        isinstance(found, dict)
        and found.get("number") == number
        and isinstance(classes := found.get("classes"), list)
        and bool(classes)
        and all(isinstance(name, str) and name in FAILURE_CLASSES for name in classes)
        and isinstance(found.get("started_at"), str)
        and isinstance(found.get("has_ended"), bool)
    )
    if not is_record:
        tell(Finding(key, "content", expected, json.dumps(found)))
        return None
    return set(found["classes"])


def _key(number: int) -> str:
    return f"_retries/{number:06d}.json"
