"""Which driver may work on a run: epochs, claimed in the store, the fence between them, heartbeats.

Every start of a run claims the next number with a conditional write. A driver whose number is no longer the last has
been superseded: it and its workers see that before they commit, and stop. ``docs/durability.md`` explains why that is
enough. A driver writes its counts with each heartbeat; anybody can read them. They are what it believed then; what is
committed is in the parts.
"""

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import RunInUse, RunSuperseded
from pipeline.storage.base import Store, json_bytes
from pipeline.storage.errors import ObjectNotFound, StoreError

_EPOCH_FILE = re.compile(r"_epochs/(?P<number>\d{6,})(?P<beat>-beat)?\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """One start of a run.

    Attributes:
        claimed_at: When it began; None if its claim cannot be read.
        heard_at: Its latest heartbeat, by its own clock; None if it gave none.
        has_ended: Whether it has closed its epoch.
        note: Its latest counts, see ``jobs.progress.monitor``; empty before the first row.
    """

    number: int
    owner: str
    claimed_at: datetime | None
    heard_at: datetime | None
    has_ended: bool
    note: Mapping[str, Any] = field(default_factory=dict)


def read_epoch_reports(store: Store) -> list[EpochReport]:
    """Every start of the run, in order; files that cannot be read as such are taken for empty."""
    keys: dict[int, dict[str, str]] = {}
    for key in store.list("_epochs/"):
        if match := _EPOCH_FILE.fullmatch(key):
            keys.setdefault(int(match["number"]), {})["beat" if match["beat"] else "claim"] = key
    return [_report(store, number, files) for number, files in sorted(keys.items())]


def _report(store: Store, number: int, files: Mapping[str, str]) -> EpochReport:
    claim, heartbeat = (_read(store, files.get(kind)) for kind in ("claim", "beat"))
    note = heartbeat.get("note")
    host = str(claim.get("host", "an unknown machine")).partition("/")[0]
    return EpochReport(
        number=number,
        owner=f"process {claim.get('pid', '?')} on {host}",
        claimed_at=_time(claim.get("claimed_at")),
        heard_at=_time(heartbeat.get("at")),
        has_ended=bool(heartbeat.get("ended", False)),
        note=note if isinstance(note, dict) else {},
    )


def _read(store: Store, key: str | None) -> dict[str, Any]:
    if key is None:
        return {}
    try:
        found = json.loads(store.get(key))
    except (ObjectNotFound, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


log = logging.getLogger("dimoo_batch.pipeline")

EPOCHS_PREFIX = "_epochs/"
HEARTBEAT_INTERVAL_S = 5.0
SILENCE_S = 3 * HEARTBEAT_INTERVAL_S
"""A driver of another machine without a heartbeat for so long is taken for dead."""

_CLAIM = re.compile(r"_epochs/(?P<number>\d{6,})\.json")
_LOOK_INTERVAL_S = 0.5
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_live_nonces: set[str] = set()  # of this process: its own id does not show which of its runs are alive


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process behind an epoch; ``host`` changes with each boot of the machine."""

    host: str
    pid: int
    process_started_s: float
    claimed_at: str
    nonce: str

    @classmethod
    def this_process(cls) -> "Owner":
        """The owner of epochs that are claimed here and now."""
        return cls(
            host=_host(),
            pid=os.getpid(),
            process_started_s=psutil.Process().create_time(),
            claimed_at=datetime.now(UTC).isoformat(timespec="seconds"),
            nonce=uuid.uuid4().hex,
        )

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}, since {self.claimed_at}"

    def is_alive(self) -> bool | None:
        """Whether the process runs; None if it is on another machine, so that nobody here can know."""
        if self.host != _host():
            return None
        if self.pid == os.getpid():
            return self.nonce in _live_nonces
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started_s) < 1.0
        except psutil.NoSuchProcess:
            return False


class Fence:
    """Lets the holder of an epoch check whether a later one was claimed. Threads may share it."""

    def __init__(self, store: Store, number: int) -> None:
        self._store = store
        self.number = number

    def check(self) -> None:
        """Continue only if this is still the last epoch; one small request."""
        if self._store.size(_claim_key(self.number + 1)) is not None:
            successor = _owner_of(self._store, self.number + 1)
            raise RunSuperseded(f"another driver ({successor}) has taken over {self._store.uri}: this one stops")


class RunEpoch:
    """One epoch and its heartbeats. Made by ``claimed_epoch``."""

    def __init__(self, store: Store, number: int, owner: Owner) -> None:
        self.number = number
        self.fence = Fence(store, number)
        self._store = store
        self._owner = owner
        self._num_heartbeats = 0
        self._note: Mapping[str, Any] = {}
        self._superseded: RunSuperseded | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live, name="epoch", daemon=True)

    def check(self) -> None:
        """Raise what the latest heartbeat has found out; no request, so it may be called all the time.

        Raises:
            RunSuperseded: A later epoch was claimed.
        """
        if self._superseded is not None:
            raise self._superseded

    def note(self, note: Mapping[str, Any]) -> None:
        """Add this, in JSON's types, to every further heartbeat; ``epoch_report`` reads it. Not changed later."""
        self._note = note

    def start(self) -> None:
        """Give the first heartbeat and repeat it on a thread."""
        self._thread.start()

    def close(self) -> None:
        """End the epoch, so that the next start need not wait for it."""
        self._end.set()
        self._thread.join()
        _live_nonces.discard(self._owner.nonce)
        with suppress(StoreError):  # only a wait for the next start
            self._heartbeat(has_ended=True)

    def _live(self) -> None:
        while True:
            try:
                self._heartbeat(has_ended=False)
                self.fence.check()
            except RunSuperseded as error:
                self._superseded = error
                return
            except StoreError:
                pass  # a store out of reach makes the run itself fail; one beat more or less does not matter
            if self._end.wait(HEARTBEAT_INTERVAL_S):
                return

    def _heartbeat(self, *, has_ended: bool) -> None:
        self._num_heartbeats += 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        heartbeat = {"beats": self._num_heartbeats, "ended": has_ended, "at": now, "note": self._note}
        self._store.put_json(_heartbeat_key(self.number), heartbeat)


@contextmanager
def claimed_epoch(store: Store, *, silence_s: float = SILENCE_S) -> Iterator[RunEpoch]:
    """Claim the next epoch of the run at ``store`` and keep it alive until the end of the block.

    A driver of this machine that has ended, and one that reported its end, are succeeded at once; one of another
    machine when it has been silent for ``silence_s``.

    Raises:
        RunInUse: Another driver is at work there, or claimed the epoch at this very moment.
    """
    latest = latest_epoch(store)
    if latest and _is_at_work(store, latest, silence_s):
        raise RunInUse(_in_use(store, latest))
    owner = Owner.this_process()
    _live_nonces.add(owner.nonce)  # before the claim can be seen: another thread here would take it for a dead one's
    try:
        is_claimed = store.put_if_absent(_claim_key(latest + 1), json_bytes(asdict(owner)))
    except StoreError:
        _live_nonces.discard(owner.nonce)
        raise
    if not is_claimed:
        _live_nonces.discard(owner.nonce)
        raise RunInUse(_in_use(store, latest + 1))
    epoch = RunEpoch(store, latest + 1, owner)
    epoch.start()
    try:
        yield epoch
    finally:
        epoch.close()


def latest_epoch(store: Store) -> int:
    """The number of the last epoch that was claimed; 0 if there was none."""
    matches = (_CLAIM.fullmatch(key) for key in store.list(EPOCHS_PREFIX))
    return max((int(match["number"]) for match in matches if match), default=0)


def _is_at_work(store: Store, number: int, silence_s: float) -> bool:
    owner = _owner_of(store, number)
    heartbeats = _heartbeats(store, number)
    if heartbeats is None or owner is None:
        return False
    if (is_alive := owner.is_alive()) is not None:
        return is_alive
    log.info("the last driver (%s) did not report its end: waiting %g s for a heartbeat", owner, silence_s)
    deadline_s = time.monotonic() + silence_s
    while time.monotonic() < deadline_s:
        time.sleep(min(_LOOK_INTERVAL_S, silence_s / 10))
        if (now := _heartbeats(store, number)) != heartbeats:
            return now is not None
    return False


def _heartbeats(store: Store, number: int) -> int | None:
    """How many heartbeats an epoch gave, 0 if none yet or none that can be read; None if it has ended."""
    try:
        found = json.loads(store.get(_heartbeat_key(number)))
        return None if found["ended"] else int(found["beats"])
    except (ObjectNotFound, ValueError, KeyError, TypeError):  # a driver that lives writes it again
        return 0


def _owner_of(store: Store, number: int) -> Owner | None:
    """None if what is there is no claim of ours."""
    try:
        found: dict[str, Any] = json.loads(store.get(_claim_key(number)))
        return Owner(**found)
    except (ValueError, TypeError):
        return None


def _in_use(store: Store, number: int) -> str:
    return (
        f"{store.uri} is in use by another driver ({_owner_of(store, number)}): wait for it, stop it, or "
        "choose another --output"
    )


def _claim_key(number: int) -> str:
    return f"{EPOCHS_PREFIX}{number:06d}.json"


def _heartbeat_key(number: int) -> str:
    return f"{EPOCHS_PREFIX}{number:06d}-beat.json"


def log_key(number: int) -> str:
    """Where the log of a start is kept."""
    return f"{EPOCHS_PREFIX}{number:06d}.log"


def _host() -> str:
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    return f"{socket.gethostname()}/{boot}"
