"""What a run's processes wrote down of their rows; see ``witnessed/sitecustomize.py``."""

import os
from collections import Counter
from pathlib import Path

from tests.support.command import REPOSITORY


class Witness:
    """The log at a path, and the environment in which runs write it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def environment(self, held: tuple[str, ...] = ()) -> dict[str, str]:
        paths = os.pathsep.join((str(REPOSITORY / "tests" / "support" / "witnessed"), str(REPOSITORY)))
        return {"PYTHONPATH": paths, "WITNESS_LOG": str(self._path), "HELD_ROWS": ",".join(held)}

    def starts(self) -> Counter[str]:
        """How often each row went into an engine."""
        return Counter(row_id for what, _, row_id in self._lines() if what == "start")

    def process_of(self, row_id: str) -> int:
        """The first process that started a row; 0 if none has."""
        return next((int(pid) for what, pid, each in self._lines() if (what, each) == ("start", row_id)), 0)

    def unfinished(self) -> set[str]:
        """Rows that a process has started and given up."""
        lines = self._lines()
        done = {(pid, row_id) for what, pid, row_id in lines if what == "done"}
        return {row_id for what, pid, row_id in lines if what == "start" and (pid, row_id) not in done}

    def _lines(self) -> list[tuple[str, str, str]]:
        text = self._path.read_text() if self._path.exists() else ""
        lines = [line.split() for line in text.splitlines()]
        return [(what, pid, row_id) for what, pid, row_id in lines]
