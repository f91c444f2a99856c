import json
import re
import time
from importlib.resources import files
from typing import Any

import pytest

from jobs.progress.metrics import METRICS, MetricsExport
from jobs.progress.state import ProgressState
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import SegmentCommitted, WorkerDied, WorkerProgress, WorkerReady
from tests.support.command import REPOSITORY

RAY_PREFIX = "ray_"

_NAME = re.compile(r"\b(?:ray_)?dimoo_batch_\w+")


class Recorded:
    """What Ray's own gauges were set to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from ray.util.metrics import Gauge

        self.values: dict[tuple[str, tuple[str, ...]], float] = {}
        known = Gauge.set

        def record(gauge: Any, value: float, tags: dict[str, str] | None = None) -> None:
            known(gauge, value, tags)  # checks the tags
            self.values[RAY_PREFIX + gauge.info["name"], tuple((tags or {}).values())] = value

        monkeypatch.setattr(Gauge, "set", record)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.values}


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """A run at work, exported once."""
    recorded = Recorded(monkeypatch)
    state = ProgressState(num_rows=100, num_resumed=0, num_workers=2, num_resumed_failed=0, worker_hour_usd=2.0)
    state.take("w0", WorkerReady(1.0))
    state._first_row_s = time.monotonic() - 60.0  # as if it had worked for a minute: there is a time to go
    progress = WorkerProgress(
        num_done=9, num_failed=2, num_steps=4, num_tokens=800, engine_busy_s=3.0, engine_span_s=4.0
    )
    state.take("w0", progress)
    state.take("w0", SegmentCommitted("0-0", RunTotals(8, 2), (("bad_input", 2),)))
    state.take("w1", WorkerDied("gone"))
    MetricsExport("s3://bucket/out", state).refresh()
    return recorded


def panels() -> list[dict[str, Any]]:
    return json.loads((files("jobs") / "grafana" / "dimoo-batch.json").read_text())["panels"]


def test_everything_in_the_table_is_exported_and_nothing_else(exported: Recorded) -> None:
    assert exported.names == {RAY_PREFIX + metric.name for metric in METRICS}
    run = ("s3://bucket/out",)
    assert exported.values["ray_dimoo_batch_rows_settled", run] == 11
    assert exported.values["ray_dimoo_batch_tokens_per_step", run] == 200
    assert exported.values["ray_dimoo_batch_failures", (*run, "bad_input")] == 2
    assert exported.values["ray_dimoo_batch_worker_busy_ratio", (*run, "w0")] == 0.75


def test_every_panel_names_only_what_is_exported(exported: Recorded) -> None:
    used = {panel["title"]: set(_NAME.findall(json.dumps(panel))) for panel in panels()}
    assert all(names and names <= exported.names for names in used.values()), used


def test_every_number_is_on_some_panel(exported: Recorded) -> None:
    assert exported.names <= set(_NAME.findall(json.dumps(panels())))


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    dashboard = json.loads((files("jobs") / "grafana" / "dimoo-batch.json").read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating"} <= dashboard.keys()
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    places = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)), "panels lie on each other"
    assert max(x for x, _ in places) < 24


def test_the_documentation_names_every_number() -> None:
    text = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert all(f"| `{metric.name}` | {metric.meaning}" in text for metric in METRICS)
