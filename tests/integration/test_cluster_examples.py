"""The examples of a cluster, started for real: their machines are processes on loopback, their Ray asks for a token."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.command import REPOSITORY, TIMEOUT_S
from tests.support.manifest_rows import write_manifest
from tests.support.ray_cluster import Machines, machines

EXAMPLES = REPOSITORY / "examples" / "cluster"
NODE = str(EXAMPLES / "ray-node.sh")
SMALL = ("--num-cpus=1", "--num-gpus=0", "--object-store-memory=83886080")


@pytest.fixture
def cluster() -> Iterator[Machines]:
    with machines() as found:
        yield found


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    rows = [{"id": f"r{n}", "task": "text_to_image", "prompt": "a red circle", "steps": 1} for n in range(4)]
    return str(write_manifest(tmp_path / "manifest.parquet", rows))


def run(cluster: Machines, *arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dimoo_batch", "run", *arguments]
    environment = cluster.environment | more
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)


def assert_complete(output: Path, cluster: Machines) -> None:
    assert (output / "_SUCCESS").exists(), cluster.log.read_text()
    assert json.loads((output / "_SUCCESS").read_text())["rows_done"] == 4


@pytest.mark.soak
def test_a_cluster_by_hand_runs_a_manifest_and_refuses_whoever_lacks_its_token(
    cluster: Machines, manifest: str, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{cluster.port}"
    cluster.start(NODE, "head", *SMALL)
    cluster.start(sys.executable, str(EXAMPLES / "wait_for_nodes.py"), address, "1").wait(TIMEOUT_S)
    cluster.start(NODE, "worker", address, *SMALL)
    waited = cluster.start(sys.executable, str(EXAMPLES / "wait_for_nodes.py"), address, "2")
    assert waited.wait(TIMEOUT_S) == 0, cluster.log.read_text()
    # Names are relative to the driver's folder, which is not the one that Ray was started in.
    arguments = (Path(manifest).name, "--output", "out", "--set", f"ray.address={address}", "--workers", "2")
    ended = run(cluster, *arguments, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert_complete(tmp_path / "out", cluster)
    ended = run(cluster, *arguments, "--output", "another", folder=tmp_path, RAY_AUTH_TOKEN="")
    assert ended.returncode == 2
    assert f"no token for the Ray cluster at '{address}': set RAY_AUTH_MODE=token" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_machine_without_a_token_is_not_started(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run(
        [NODE, "head"], env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "no token" in ended.stderr


@pytest.mark.soak
def test_the_task_of_skypilot_runs_a_manifest_on_two_machines(cluster: Machines, manifest: str, tmp_path: Path) -> None:
    task = yaml.safe_load((EXAMPLES / "skypilot.yaml").read_text())
    own = {
        "MANIFEST": manifest,
        "OUTPUT": str(tmp_path / "out"),
        "MODEL": "builtin",
        "SKYPILOT_NODE_IPS": "127.0.0.1\n127.0.0.1",
        "SKYPILOT_NUM_NODES": "2",
    }
    head = cluster.start("bash", "-c", task["run"], **own, SKYPILOT_NODE_RANK="0")
    cluster.start("bash", "-c", task["run"], **own, SKYPILOT_NODE_RANK="1")
    assert head.wait(TIMEOUT_S) == 0, cluster.log.read_text()
    assert_complete(tmp_path / "out", cluster)


SRUN = """#!/usr/bin/env bash
# Runs the step once for each machine, here; passes a signal on to them.
while [[ "$1" == --* ]]; do shift; done
steps=()
for id in 0 1; do SLURM_NODEID=$id "$@" & steps+=($!); done
trap 'kill "${steps[@]}"; wait' TERM
wait
"""
SCONTROL = """#!/usr/bin/env bash
if [[ "$1" == show ]]; then printf '127.0.0.1\\n127.0.0.1\\n'; else echo "$@" >> "$REQUESTS"; fi
"""


@pytest.mark.soak
def test_the_job_of_slurm_runs_a_manifest_on_two_machines(cluster: Machines, manifest: str, tmp_path: Path) -> None:
    """With stand-ins for ``srun`` and ``scontrol`` that know one machine, this one, as two."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    own = {
        "PATH": f"{tmp_path}:{cluster.environment['PATH']}",
        "MANIFEST": manifest,
        "OUTPUT": str(tmp_path / "out"),
        "MODEL": "builtin",
        "SLURM_SUBMIT_DIR": str(REPOSITORY),
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "7",
        "REQUESTS": str(tmp_path / "requests"),
    }
    job = cluster.start("bash", str(EXAMPLES / "slurm.sbatch"), **own)
    assert job.wait(TIMEOUT_S) == 0, cluster.log.read_text()
    assert_complete(tmp_path / "out", cluster)
    assert not (tmp_path / "requests").exists()
