"""Local runs that kill themselves, each at another point of its second commit.

``python -m tests.support.crashing_run MANIFEST FOLDER MODEL`` puts the output of each into a folder named by its point.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.storage.local import LocalStore
from tests.support.in_process import run_here

CrashPoint = Literal["before the part", "while the part is written", "after the part"]


def crash_in_second_commit(point: CrashPoint) -> None:
    """From now on the second part that is put into a local store takes the process with it."""
    put_if_absent, hardlink_to = LocalStore.put_if_absent, Path.hardlink_to
    num_parts = 0

    def put_and_crash(store: LocalStore, key: str, data: bytes) -> bool:
        nonlocal num_parts
        num_parts += key.startswith("parts/")
        is_second = num_parts == 2
        if is_second and point == "before the part":
            _crash()
        is_ours = put_if_absent(store, key, data)
        if is_second:
            _crash()
        return is_ours

    def link_and_crash(path: Path, target: Any) -> None:
        if num_parts == 2 and point == "while the part is written":
            _crash()
        hardlink_to(path, target)

    LocalStore.put_if_absent = put_and_crash  # type: ignore[method-assign]
    Path.hardlink_to = link_and_crash  # type: ignore[method-assign]


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_crash(point: CrashPoint, manifest: str, folder: str, model: str) -> int:
    """Run in a copy of this process, which has everything imported and nothing started; returns how it ended."""
    if (pid := os.fork()) == 0:
        crash_in_second_commit(point)
        pipeline = {"segment_rows": 2, "store_threads": 1, "max_rows_in_flight": 2}
        run_here(manifest, f"{folder}/{point}", Path(model), pipeline=pipeline)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    from transformers import PreTrainedTokenizerFast  # noqa: F401 - once for all copies

    _, manifest, folder, model = sys.argv
    print(json.dumps({point: fork_and_crash(point, manifest, folder, model) for point in get_args(CrashPoint)}))
