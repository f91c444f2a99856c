"""Makes some rows poison: whichever process prepares one of them is killed, as by a decoder that crashes.

Python imports this module at its start when the folder is on ``PYTHONPATH``, in every process of a run. The rows' ids
are in ``POISON_ROWS``, separated by commas.
"""

import importlib.machinery
import os
import signal
import sys
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


class PoisonFinder(MetaPathFinder):
    """Changes ``pipeline.prepare`` when it is imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != "pipeline.prepare":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_poison(module: ModuleType) -> None:
            execute(module)
            poison(module)

        loader.exec_module = execute_and_poison
        return spec


def poison(module: Any) -> None:
    ids = os.environ["POISON_ROWS"].split(",")
    prepare = module.RowPreparer.prepare

    def prepare_or_die(preparer: Any, row: Any, *arguments: Any) -> Any:
        if row.id in ids:
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(preparer, row, *arguments)

    module.RowPreparer.prepare = prepare_or_die


if "POISON_ROWS" in os.environ:
    sys.meta_path.insert(0, PoisonFinder())
