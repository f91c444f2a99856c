"""A local disk whose n-th write fails for good: before it is done, or after it was done but not told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore


@dataclass
class BreakingDisk:
    """Counts writes of some keys; the one after ``writes_left`` fails, and every one after it.

    Args:
        prefixes: Which keys count; others are written as ever.
    """

    prefixes: tuple[str, ...]
    writes_left: int = 0
    is_done_first: bool = False
    broken_at: list[str] = field(default_factory=list)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """From now on local stores of this process are on this disk."""
        for name in ("put", "_create", "delete"):
            patch.setattr(LocalStore, name, self._guarded(getattr(LocalStore, name)))

    def _guarded(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(store: LocalStore, key: str, *data: bytes, **options: Any) -> Any:
            if not key.startswith(self.prefixes):
                return write(store, key, *data, **options)
            self.writes_left -= 1
            if self.writes_left >= 0:
                return write(store, key, *data, **options)
            if self.writes_left == -1:
                self.broken_at.append(key)
                if self.is_done_first:
                    write(store, key, *data, **options)
            raise StoreError("write", key, "EIO")

        return guarded
