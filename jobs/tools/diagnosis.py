"""One thing that ``dimoo-batch doctor`` looked at, and what to do about it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "warning", "wrong"]
_MARKS: dict[Verdict, str] = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``found`` is what is so, ``fix`` what to do if it is not as it should be.

    A run cannot work with what is wrong; a warning is about what is slower, or misses, than it need be.
    """

    subject: str
    verdict: Verdict
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        fix = [f"         {' ' * 12} fix: {self.fix}"] if self.fix else []
        return [f"{_MARKS[self.verdict]}  {self.subject:<12} {self.found}", *fix]
