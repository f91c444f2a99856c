"""Makes some rows poison, in every process of a run: Python imports this module when its folder is on ``PYTHONPATH``.

Ids are separated by commas. Whichever process prepares one of ``POISON_ROWS`` is killed, as by a decoder that crashes.
A thread that prepares one of ``HANGING_ROWS`` hangs, and so does an engine that steps with one of ``HANGING_STEPS``.
Each row that is prepared leaks 64 MiB and takes a second if there is a ``LEAK_LOG``, where its process is noted.
Of processes that load a model, the first to create the file ``BAD_WORKER`` has one whose logits are no numbers.
"""

import importlib.machinery
import os
import signal
import sys
import threading
from contextlib import suppress
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


class PoisonFinder(MetaPathFinder):
    """Changes modules of the product when they are imported."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name not in _POISONS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_poison(module: ModuleType) -> None:
            execute(module)
            _POISONS[name](module)

        loader.exec_module = execute_and_poison
        return spec


def ids(name: str) -> list[str]:
    return os.environ.get(name, "").split(",")


def note(log: str, text: str) -> None:
    number = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(number, f"{text}\n".encode())
    os.close(number)


def hang() -> None:
    threading.Event().wait()


def poison_preparing(module: Any) -> None:
    preprocess, leaked = module.Preprocessor.preprocess, list[bytearray]()

    def prepare_or_die(preprocessor: Any, row: Any, *arguments: Any) -> Any:
        if row.id in ids("POISON_ROWS"):
            os.kill(os.getpid(), signal.SIGKILL)
        if row.id in ids("HANGING_ROWS"):
            hang()
        if log := os.environ.get("LEAK_LOG"):
            threading.Event().wait(1.0)
            leaked.append(bytearray(os.urandom(2**20) * 64))
            note(log, f"{os.getpid()} {row.id}")
        return preprocess(preprocessor, row, *arguments)

    module.Preprocessor.preprocess = prepare_or_die


def poison_stepping(module: Any) -> None:
    step = module.Worker._step

    def step_or_hang(worker: Any) -> Any:
        if any(flow.row.id in ids("HANGING_STEPS") for _, flow in worker._in_engine.values()):
            hang()
        return step(worker)

    module.Worker._step = step_or_hang
    load = module.load_model

    def load_well_or_badly(*arguments: Any, **options: Any) -> Any:
        model = load(*arguments, **options)
        if path := os.environ.get("BAD_WORKER"):
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
                model.transformer.final_norm.weight.fill_(float("nan"))
        return model

    module.load_model = load_well_or_badly


_POISONS = {"pipeline.rows.preprocess": poison_preparing, "pipeline.worker.worker": poison_stepping}

if {"POISON_ROWS", "HANGING_ROWS", "HANGING_STEPS", "LEAK_LOG", "BAD_WORKER"} & set(os.environ):
    sys.meta_path.insert(0, PoisonFinder())
