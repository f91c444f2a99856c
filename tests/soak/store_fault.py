"""Puts a source of faults between the product and its stores, in this process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.base import Store
from pipeline.storage.errors import AccessDenied, StoreError
from pipeline.storage.local import LocalStore
from pipeline.storage.s3 import S3Store
from pipeline.worker.worker import Worker
from tests.soak.fault import FaultKind, FaultSource
from tests.soak.point import Phase, Role, point_after_delete, point_after_write, point_before_write

_CODES = {"drop": "ConnectionClosedError", "lose answer": "ReadTimeoutError", "truncate": "IncompleteReadError"}


def inject(patch: pytest.MonkeyPatch, faults: FaultSource, *, phase: Phase, role: Role, spoils: bool) -> None:
    """From now on this process's stores fail as ``faults`` draws, and the process dies at its point.

    Args:
        patch: Undone with the process.
        faults: Of this process.
        phase: What the process works on.
        role: Of the process; each passes points of its own.
        spoils: Whether requests fail here; not where a proxy does it.
    """
    drawing = _Drawing(faults, phase, role, spoils)
    for store in (LocalStore, S3Store):
        for name in ("put", "_create", "delete"):
            patch.setattr(store, name, _write(name, getattr(store, name), drawing))
        for name in ("get", "get_range", "size"):
            patch.setattr(store, name, _read(name, getattr(store, name), drawing))
        patch.setattr(store, "list", _listing(store.list, drawing))
    patch.setattr(Path, "hardlink_to", _link(Path.hardlink_to, faults))
    patch.setattr(Worker, "__init__", _telling(Worker.__init__, faults))


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What the wrapped requests of one process share."""

    faults: FaultSource
    phase: Phase
    role: Role
    spoils: bool

    def kind(self, action: str) -> FaultKind | None:
        return self.faults.draw(action) if self.spoils else None


def _write(name: str, work: Callable[..., Any], drawing: _Drawing) -> Callable[..., Any]:
    faults, phase, role = drawing.faults, drawing.phase, drawing.role

    def wrapped(store: Store, key: str, *arguments: Any, **options: Any) -> Any:
        data = arguments[0] if arguments else None
        if name == "_create" and key.startswith("parts/") and isinstance(store, S3Store):
            faults.pass_point("8")  # of a disk it is passed between the file and its name
        if name == "put":
            faults.pass_point(point_before_write(key, phase, role, data))
        kind = drawing.kind("write")
        if kind in ("drop", "403", "500", "503"):
            raise _error(kind, store, key)
        found = work(store, key, *arguments, **options)
        if kind == "duplicate":
            work(store, key, *arguments, **options)
        if kind == "lose answer":
            raise _error(kind, store, key)
        if name == "delete":
            faults.pass_point(point_after_delete(key, phase, role))
        else:
            faults.pass_point(point_after_write(key, phase, role, is_put=name == "put", data=data))
        return found

    return wrapped


def _read(name: str, work: Callable[..., Any], drawing: _Drawing) -> Callable[..., Any]:
    def wrapped(store: Store, key: str, *arguments: Any, **options: Any) -> Any:
        if kind := drawing.kind("read"):
            raise _error(kind, store, key)
        found = work(store, key, *arguments, **options)
        if name == "size" and key.startswith("_epochs/"):
            drawing.faults.pass_point("7" if drawing.role == "worker" else "12")
        return found

    return wrapped


def _listing(work: Callable[..., Any], drawing: _Drawing) -> Callable[..., Any]:
    def wrapped(store: Store, prefix: str = "") -> Iterator[str]:
        kind = drawing.kind("read")
        for number, key in enumerate(work(store, prefix)):
            if kind and number == 2:
                raise _error(kind, store, prefix)
            yield key
        if kind:
            raise _error(kind, store, prefix)
        if prefix == "parts/" and drawing.role == "driver":
            drawing.faults.pass_point("5")

    return wrapped


def _link(work: Callable[..., Any], faults: FaultSource) -> Callable[..., Any]:
    def wrapped(path: Path, target: Any) -> None:
        if path.parent.name == "parts":
            faults.pass_point("8")
        work(path, target)

    return wrapped


def _telling(work: Callable[..., Any], faults: FaultSource) -> Callable[..., Any]:
    def wrapped(worker: Worker, settings: Any, emit: Callable[[Any], None], *rest: Any, **options: Any) -> None:
        def told(event: Any) -> None:
            emit(event)
            if type(event).__name__ == "SegmentCommitted":
                faults.pass_point("11")

        work(worker, settings, told, *rest, **options)

    return wrapped


def _error(kind: FaultKind, store: Store, key: str) -> StoreError:
    uri = store.uri_of(key)
    if kind == "403":
        return AccessDenied("use", uri, "AccessDenied", "injected")
    code = {"500": "InternalError", "503": "SlowDown"}.get(kind) or _CODES[kind]
    return StoreError("use", uri, code, "injected", retryable=True)
