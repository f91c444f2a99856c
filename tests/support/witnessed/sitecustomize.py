"""Writes down which rows enter an engine and which have their outcome, in every process of a run; and holds some back.

Python imports this module at its start when the folder is on ``PYTHONPATH``. A line ``start PID ID`` or ``done PID ID``
goes to the file named by ``WITNESS_LOG``. A row of ``HELD_ROWS``, separated by commas, never leaves the engine of the
first process that starts it.
"""

import importlib.machinery
import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class WitnessFinder(MetaPathFinder):
    """Changes ``pipeline.worker.worker`` when it is imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != "pipeline.worker.worker":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_watch(module: ModuleType) -> None:
            execute(module)
            watch(module)

        loader.exec_module = execute_and_watch
        return spec


def note(what: str, row_id: str) -> None:
    number = os.open(os.environ["WITNESS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(number, f"{what} {os.getpid()} {row_id}\n".encode())
    os.close(number)


def is_first(row_id: str) -> bool:
    """Whether no other process has started this held row before."""
    try:
        Path(f"{os.environ['WITNESS_LOG']}.{row_id}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def watch(module: Any) -> None:
    held = os.environ.get("HELD_ROWS", "").split(",")
    mine: set[str] = set()
    enter, step, commit_held = module.Worker._enter, module.Worker._step, module.SegmentCommitter.commit_held

    def entering(worker: Any, segment: Any, flow: Any, requests: Any) -> None:
        if flow.row.id in held and is_first(flow.row.id):
            mine.add(flow.row.id)
        if requests:  # else its last result is being taken
            note("start", flow.row.id)
        enter(worker, segment, flow, requests)

    def stepping(worker: Any) -> list[Any]:
        return [each for each in step(worker) if worker._in_engine[each.request_id][1].row.id not in mine]

    def settling(committer: Any, segment: Any, row_result: Any) -> None:
        commit_held(committer, segment, row_result)
        note("done", row_result.id)

    module.Worker._enter, module.Worker._step, module.SegmentCommitter.commit_held = entering, stepping, settling


if "WITNESS_LOG" in os.environ:
    sys.meta_path.insert(0, WitnessFinder())
