"""Runs inside the test's own process: one model is loaded for all of them, which saves seconds for each."""

import functools
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dimoo_core.checkpoint.load import load_model
from dimoo_core.engine import engine as engine_module
from dimoo_core.model.batch_invariance import InvariancePolicy, probe_invariance_policy
from jobs.cli import app
from jobs.run.run import run_job
from jobs.run.summary import RunSummary
from jobs.spec.spec import load_spec
from pipeline.worker import worker as worker_module
from tests.support.manifest_rows import FAST_SETTINGS

_load_once = functools.cache(load_model)
_policies: dict[object, InvariancePolicy] = {}


def _probe_once(shapes: Any, device: Any) -> InvariancePolicy:
    key = (frozenset(shapes), device)
    if key not in _policies:
        _policies[key] = probe_invariance_policy(key[0], device)
    return _policies[key]


def load_models_once(patch: pytest.MonkeyPatch) -> None:
    """From now on workers of this process share one model of each checkpoint."""
    patch.setattr(worker_module, "load_model", _load_once)
    patch.setattr(engine_module, "probe_invariance_policy", _probe_once)


def run_here(manifest: object, output: object, model: Path, **spec: Any) -> RunSummary:
    """Run a job with ``FAST_SETTINGS``; ``spec`` holds other keys, sections as mappings."""
    raw: dict[str, Any] = {"manifest": str(manifest), "output": str(output), "model": str(model), "workers": 0}
    return run_job(load_spec(None, _merged(_merged(FAST_SETTINGS, raw), spec), []))


def command(*arguments: object) -> Any:
    """The command line in this process; its result has ``exit_code``, ``stdout`` and ``stderr``."""
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(app, ["run", *map(str, arguments)])
    finally:
        signal.signal(signal.SIGTERM, on_terminate)


def check_one_line(stderr: str, *words: str) -> None:
    """The command ended in one message of one line, with these words and without a traceback."""
    assert "Traceback" not in stderr
    messages = [line for line in stderr.splitlines() if line.startswith("dimoo-batch: ")]
    assert len(messages) == 1, stderr
    assert all(word in messages[0] for word in words), stderr


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        is_section = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merged(base[key], value) if is_section else value
    return merged
