"""A row as the manifest has it, before hooks have seen it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row whose cells hooks are going to see; ``id`` is what it is known by and stays."""

    index: int
    id: str
    cells: dict[str, Any]
