"""The numbered points of docs/durability.md at which a process may be killed, and which request leads to which."""

import json
from typing import Any, Literal

Point = str
Phase = Literal["run", "retry"]
Role = Literal["driver", "worker"]

POINTS: dict[Point, str] = {
    "1": "driver has probed the store",
    "2": "driver has claimed an epoch",
    "3": "driver has given a sign of life",
    "4": "driver has described the run",
    "5": "driver has listed the parts",
    "6": "worker has put an image",
    "6a": "worker has put a draft",
    "7": "worker has passed the fence",
    "8": "worker is writing the part",
    "9": "the part is created",
    "9a": "the part's drafts are removed",
    "10": "the failures are copied",
    "11": "the worker has told the driver",
    "12": "the driver has passed the fence",
    "13": "driver has written _SUCCESS",
    "14": "driver has ended its epoch",
    "15": "driver has read the failures",
    "16": "driver has begun the retry",
    "17": "driver has taken _SUCCESS away",
    "18": "worker has put an image of a row that is tried again",
    "19": "the part of the retry is created",
    "20": "its failures are copied",
    "21": "the copies before are removed",
    "22": "driver has written _SUCCESS with the new totals",
    "23": "driver has ended the retry",
}

POINTS_OF: dict[tuple[Phase, Role], tuple[Point, ...]] = {
    ("run", "driver"): ("1", "2", "3", "4", "5", "12", "13", "14"),
    ("run", "worker"): ("6", "6a", "7", "8", "9", "9a", "10", "11"),
    ("retry", "driver"): ("15", "16", "17", "22", "23"),
    ("retry", "worker"): ("6a", "8", "9a", "18", "19", "20", "21"),
}
"""Where the processes of a phase are killed; those of a run that a retry passes too are left to the run."""

_OF_RUN = {"images": "6", "_drafts": "6a", "parts": "9", "_failures": "10"}
_OF_RETRY = {"images": "18", "_drafts": "6a", "parts": "19", "_failures": "20"}


def point_before_write(key: str, phase: Phase, role: Role, data: Any) -> Point | None:
    """What has been done when a write begins, where nothing else shows it."""
    is_first = role == "driver" and key.startswith("_retries/") and not json.loads(data)["has_ended"]
    return "15" if is_first and phase == "retry" else None


def point_after_write(key: str, phase: Phase, role: Role, *, is_put: bool, data: Any) -> Point | None:
    """What has been done when a write is.

    Args:
        key: What was written.
        phase: What the process works on.
        role: Of the process.
        is_put: Whether it was put, whatever lay there; otherwise it was created.
        data: Its bytes.
    """
    folder = key.partition("/")[0]
    if role == "worker":
        return (_OF_RUN if phase == "run" else _OF_RETRY).get(folder)
    if folder == "_epochs":
        if key.endswith(".log"):
            return None
        if not is_put:
            return "2"
        return "14" if json.loads(data).get("ended") else "3"
    if folder == "_retries":
        return "23" if json.loads(data)["has_ended"] else "16"
    return {"run.json": "4", "_SUCCESS": "13" if phase == "run" else "22"}.get(key)


def point_after_delete(key: str, phase: Phase, role: Role) -> Point | None:
    """What has been done when an object is removed."""
    folder = key.partition("/")[0]
    if role == "worker":
        return {"_drafts": "9a", "_failures": "21"}.get(folder)
    if key == "_SUCCESS":
        return "17"
    return None if folder in ("_drafts", "_failures", "_quarantine", "_suspects") else "1"
