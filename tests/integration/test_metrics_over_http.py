"""The numbers of a run, read over HTTP from the Ray that exports them, as Prometheus does."""

import importlib.util
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path

import pytest

from jobs.metrics import METRICS, RAY_PREFIX
from tests.support.command import TIMEOUT_S
from tests.support.manifest_rows import FAST_SETTINGS, image_row, write_manifest
from tests.support.ray_cluster import free_port, machines

REQUIRED = "DIMOO_TEST_METRICS"
"""Set to ``required`` where ``pip install '.[metrics]'`` was made, as in continuous integration."""
HOLD = '''
import pathlib, time

def hold(cells):
    """Keeps the last row back until it is let go."""
    while cells["id"] == "held" and not pathlib.Path({release!r}).exists():
        time.sleep(0.05)
    return cells
'''


@pytest.fixture(autouse=True)
def _serving_ray() -> None:
    if os.environ.get(REQUIRED) != "required" and importlib.util.find_spec("opencensus") is None:
        pytest.skip("this Ray serves no numbers: pip install '.[metrics]'")


def scraped(port: int, token: str) -> dict[str, set[str]]:
    """Labels of each number of ours; nothing while nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return {}
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(rf"^({RAY_PREFIX}dimoo_batch_\w+)\{{(.*)\}} ", text, re.MULTILINE):
        found.setdefault(name, set()).add(labels)
    return found


def test_a_run_serves_every_number_that_the_dashboard_asks_for(tmp_path: Path, tiny_checkpoint: Path) -> None:
    rows = [image_row("first"), image_row("wrong", width=30), image_row("held")]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    release = tmp_path / "release"
    (tmp_path / "holding.py").write_text(HOLD.format(release=str(release)))
    spec = {**FAST_SETTINGS, "hooks": {"rows": ["holding:hold"]}, "pipeline": {"segment_rows": 1}}
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    asked = set(re.findall(r"ray_dimoo_batch_\w+", (files("jobs") / "grafana" / "dimoo-batch.json").read_text()))
    with machines() as cluster:
        often = {
            "RAY_metrics_report_interval_ms": "500",
            "RAY_raylet_start_wait_time_s": "200",  # its agents take long to start where cores are few
            "PYTHONPATH": f"{tmp_path}:{cluster.environment['PYTHONPATH']}",
        }
        port = free_port()
        node = str(Path(__file__).parents[2] / "examples" / "cluster" / "ray-node.sh")
        small = ("--num-cpus=1", "--num-gpus=0", "--object-store-memory=83886080")
        head = cluster.start(node, "head", *small, f"--metrics-export-port={port}", **often)
        address = f"127.0.0.1:{cluster.port}"
        wait = str(Path(node).with_name("wait_for_nodes.py"))
        started_by = time.monotonic() + TIMEOUT_S
        while cluster.start(sys.executable, wait, address, "1").wait(TIMEOUT_S) != 0:
            is_starting = head.poll() is None and time.monotonic() < started_by
            assert is_starting, cluster.log.read_text()
        words = ["run", str(manifest), "--output", str(tmp_path / "out"), "--spec", str(tmp_path / "spec.yaml")]
        words += ["--model", str(tiny_checkpoint), "--workers", "1", "--set", f"ray.address={address}"]
        driver = cluster.start(sys.executable, "-m", "jobs.cli", *words, **often)
        found: dict[str, set[str]] = {}
        deadline = time.monotonic() + TIMEOUT_S
        while not asked <= found.keys() and time.monotonic() < deadline and driver.poll() is None:
            for name, labels in scraped(port, cluster.token).items():
                found.setdefault(name, set()).update(labels)
            time.sleep(0.2)
        release.touch()
        assert driver.wait(TIMEOUT_S) == 3, cluster.log.read_text()
    assert asked <= found.keys(), sorted(asked - found.keys())
    assert found.keys() == {RAY_PREFIX + metric.name for metric in METRICS}
    assert any('failure_class="bad_input"' in labels for labels in found["ray_dimoo_batch_failures"])
    assert all(f'run="{tmp_path}/out"' in labels for labels in found["ray_dimoo_batch_rows_settled"])
