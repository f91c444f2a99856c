"""Exceptions of the input contract, and why a row has no result. The whole tree is drawn in ``dimoo_core.errors``."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from dimoo_core.errors import DimooError

FailureClass = Literal[
    "bad_input", "not_found", "forbidden", "timeout", "oom", "engine", "store", "crash", "hook", "rejected"
]
"""What a failure means for a retry of its row; docs/output.md describes them."""

FAILURE_CLASSES: tuple[FailureClass, ...] = get_args(FailureClass)


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Why one row has no result; ``row`` counts from 0 over the whole manifest, ``attempts`` every try of it.

    ``columns`` is a JSON object of the row's columns that are not ours, added when the failure is recorded.
    """

    row: int
    id: str
    stage: str
    error_type: str
    message: str
    failure_class: FailureClass = "bad_input"
    attempts: int = 1
    columns: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What is written of it; without columns there is no such key."""
        return {name: value for name, value in asdict(self).items() if name != "columns" or value is not None}


class ManifestError(DimooError):
    """The manifest as a whole cannot be used: missing columns, wrong types, unreadable file."""


class ManifestRowError(ManifestError):
    """One row is wrong; it becomes a row failure and the other rows are not affected."""
