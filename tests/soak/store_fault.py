"""Puts a source of faults between the product and its stores, in this process."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import AccessDenied, StoreError
from pipeline.local_store import LocalStore
from pipeline.s3_store import S3Store
from pipeline.store import Store
from pipeline.worker import Worker
from tests.soak.fault import FaultKind, FaultSource

_CODES = {"drop": "ConnectionClosedError", "lose answer": "ReadTimeoutError", "truncate": "IncompleteReadError"}


def inject(patch: pytest.MonkeyPatch, faults: FaultSource, *, role: str, spoils: bool) -> None:
    """From now on this process's stores fail as ``faults`` draws, and the process dies at its point.

    Args:
        role: ``driver`` or ``worker``; each passes points of its own.
        spoils: Whether requests fail here; not where a proxy does it.
    """
    for store in (LocalStore, S3Store):
        for name in ("put", "_create", "delete"):
            patch.setattr(store, name, _write(name, getattr(store, name), faults, role, spoils))
        for name in ("get", "get_range", "size"):
            patch.setattr(store, name, _read(name, getattr(store, name), faults, role, spoils))
        patch.setattr(store, "list", _listing(store.list, faults, role, spoils))
    patch.setattr(Path, "hardlink_to", _link(Path.hardlink_to, faults))
    patch.setattr(Worker, "__init__", _telling(Worker.__init__, faults))


def _write(name: str, work: Callable[..., Any], faults: FaultSource, role: str, spoils: bool) -> Callable[..., Any]:
    def wrapped(store: Store, key: str, *arguments: Any, **options: Any) -> Any:
        if name == "_create" and key.startswith("parts/") and isinstance(store, S3Store):
            faults.pass_point(8)  # of a disk it is passed between the file and its name
        kind = faults.draw("write") if spoils else None
        if kind in ("drop", "403", "500", "503"):
            raise _error(kind, store, key)
        found = work(store, key, *arguments, **options)
        if kind == "duplicate":
            work(store, key, *arguments, **options)
        if kind == "lose answer":
            raise _error(kind, store, key)
        if point := _point_after_write(name, key, role, arguments):
            faults.pass_point(point)
        return found

    return wrapped


def _read(name: str, work: Callable[..., Any], faults: FaultSource, role: str, spoils: bool) -> Callable[..., Any]:
    def wrapped(store: Store, key: str, *arguments: Any, **options: Any) -> Any:
        if spoils and (kind := faults.draw("read")):
            raise _error(kind, store, key)
        found = work(store, key, *arguments, **options)
        if name == "size" and key.startswith("_epochs/"):
            faults.pass_point(7 if role == "worker" else 12)
        return found

    return wrapped


def _listing(work: Callable[..., Any], faults: FaultSource, role: str, spoils: bool) -> Callable[..., Any]:
    def wrapped(store: Store, prefix: str = "") -> Iterator[str]:
        kind = faults.draw("read") if spoils else None
        for number, key in enumerate(work(store, prefix)):
            if kind and number == 2:
                raise _error(kind, store, prefix)
            yield key
        if kind:
            raise _error(kind, store, prefix)
        if prefix == "parts/" and role == "driver":
            faults.pass_point(5)

    return wrapped


def _link(work: Callable[..., Any], faults: FaultSource) -> Callable[..., Any]:
    def wrapped(path: Path, target: Any) -> None:
        if path.parent.name == "parts":
            faults.pass_point(8)
        work(path, target)

    return wrapped


def _telling(work: Callable[..., Any], faults: FaultSource) -> Callable[..., Any]:
    def wrapped(worker: Worker, settings: Any, emit: Callable[[Any], None], *rest: Any, **options: Any) -> None:
        def told(event: Any) -> None:
            emit(event)
            if type(event).__name__ == "SegmentCommitted":
                faults.pass_point(11)

        work(worker, settings, told, *rest, **options)

    return wrapped


def _point_after_write(name: str, key: str, role: str, arguments: tuple[Any, ...]) -> int | None:
    if role == "driver":
        if name == "delete":
            return 1
        if key.startswith("_epochs/") and name == "put":
            return 14 if json.loads(arguments[0]).get("ended") else 3
        return {"run.json": 4, "_SUCCESS": 13}.get(key) or (2 if key.startswith("_epochs/") else None)
    return {"images": 6, "parts": 9, "_failures": 10}.get(key.partition("/")[0])


def _error(kind: FaultKind, store: Store, key: str) -> StoreError:
    uri = store.uri_of(key)
    if kind == "403":
        return AccessDenied("use", uri, "AccessDenied", "injected")
    code = {"500": "InternalError", "503": "SlowDown"}.get(kind) or _CODES[kind]
    return StoreError("use", uri, code, "injected", retryable=True)
