"""The files of ``examples/cluster`` are what their tools take."""

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.command import REPOSITORY
from tests.unit.jobs.commands.test_documented_commands import parse

FOLDER = REPOSITORY / "examples" / "cluster"
KUBERNETES = "1.32"


def closed(properties: dict[str, Any], *, required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": list(required)}


STRING, COUNT, TEXTS = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"additionalProperties": {"type": "string"}},
)
POD = {"type": "object"}  # checked against the schema of Kubernetes itself

RAY_JOB = closed(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": closed({"name": STRING}, required=("name",)),
        "spec": closed(
            {
                "entrypoint": STRING,
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
                "backoffLimit": COUNT,
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": COUNT,
                "rayClusterSpec": closed(
                    {
                        "rayVersion": STRING,
                        "authOptions": closed({"mode": {"enum": ["disabled", "token"]}}),
                        "headGroupSpec": closed(
                            {"rayStartParams": {"type": "object", **TEXTS}, "template": POD}, required=("template",)
                        ),
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": closed(
                                {
                                    "groupName": STRING,
                                    "replicas": COUNT,
                                    "minReplicas": COUNT,
                                    "maxReplicas": COUNT,
                                    "rayStartParams": {"type": "object", **TEXTS},
                                    "template": POD,
                                },
                                required=("groupName", "maxReplicas", "minReplicas", "template"),
                            ),
                        },
                    },
                    required=("headGroupSpec",),
                ),
            }
        ),
    },
    required=("apiVersion", "kind", "metadata", "spec"),
)
"""The fields that the example uses, of KubeRay's custom resource RayJob, version v1.

Source: ray-project/kuberay, ray-operator/config/crd/bases/ray.io_rayjobs.yaml. It is in no package that pip installs.
"""

SKY_TASK = closed(
    {
        "name": STRING,
        "num_nodes": {"type": "integer", "minimum": 1},
        "workdir": STRING,
        "resources": closed(
            {"accelerators": STRING, "use_spot": {"type": "boolean"}, "disk_size": COUNT}, required=("accelerators",)
        ),
        "envs": {"type": "object", "patternProperties": {"^[a-zA-Z_][a-zA-Z0-9_]*$": STRING}},
        "secrets": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        "setup": STRING,
        "run": STRING,
    },
    required=("resources", "run"),
)
"""The fields that the example uses, of a task of SkyPilot 0.14.

Source: the package skypilot, sky/utils/schemas.py. Installed it is half a gigabyte and would bring an older click.
"""


SBATCH_OPTIONS = frozenset(
    re.findall(
        r"[a-z-]+",
        """account array begin chdir comment constraint cpus-per-gpu cpus-per-task dependency error exclude exclusive
        export gpus gpus-per-node gpus-per-task gres hold input job-name kill-on-invalid-dep licenses mail-type
        mail-user mem mem-per-cpu mem-per-gpu no-kill no-requeue nodelist nodes ntasks ntasks-per-node open-mode output
        partition qos requeue reservation signal time time-min wait""",
    )
)
"""Source: the manual page sbatch(1) of Slurm 22.05."""


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def check_ray_job(job: Any) -> None:
    """As an API server with KubeRay's resource would.

    Raises:
        ValidationError: It would be refused.
    """
    jsonschema.validate(job, RAY_JOB)
    cluster = job["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_ray_job_is_one_that_kuberay_and_kubernetes_take() -> None:
    check_ray_job(load("kuberay-rayjob.yaml"))


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["spec"].update(entryPoint="x"),
        lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="none"),
        lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
        lambda job: job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("minReplicas"),
        lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0].update(img="x"),
        lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].pop("containers"),
    ],
)
def test_a_mistake_in_the_ray_job_is_noticed(change: Any) -> None:
    job = load("kuberay-rayjob.yaml")
    change(job)
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check_ray_job(job)


def test_the_ray_job_asks_for_as_many_workers_as_it_has_gpus_and_for_a_token() -> None:
    spec = load("kuberay-rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    [group] = cluster["workerGroupSpecs"]
    gpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert f"--workers {gpus * group['replicas']} " in spec["entrypoint"]
    assert cluster["authOptions"] == {"mode": "token"}
    pinned = re.search(r"ray==([\d.]+)", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"))
    image = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert pinned is not None
    assert pinned[1] == cluster["rayVersion"]
    assert f"FROM rayproject/ray:{pinned[1]}-py311-gpu" in image


def test_the_task_is_one_that_skypilot_takes() -> None:
    task = load("skypilot.yaml")
    jsonschema.validate(task, SKY_TASK)
    assert task["secrets"] == {"RAY_AUTH_TOKEN": None}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**task, "nodes": 2}, SKY_TASK)


def scripts() -> dict[str, str]:
    task = load("skypilot.yaml")
    files = {name: (FOLDER / name).read_text(encoding="utf-8") for name in ("ray-node.sh", "slurm.sbatch")}
    return files | {f"skypilot.yaml {part}": f"#!/usr/bin/env bash\n{task[part]}" for part in ("setup", "run")}


def shellcheck(text: str) -> str:
    command = [str(Path(sysconfig.get_path("scripts")) / "shellcheck"), "--shell=bash", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.mark.parametrize("name", scripts())
def test_shellcheck_has_nothing_to_say_about_a_script(name: str) -> None:
    assert shellcheck(scripts()[name]) == ""


def test_shellcheck_notices_what_is_wrong() -> None:
    assert "SC2086" in shellcheck("#!/usr/bin/env bash\nname=$1\nls $name\n")


def test_the_options_of_the_slurm_job_are_ones_that_sbatch_has() -> None:
    given = re.findall(r"^#SBATCH --([a-z-]+)", (FOLDER / "slurm.sbatch").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(given) > 5
    assert set(given) <= SBATCH_OPTIONS


def test_the_commands_in_the_examples_are_ones_that_the_command_line_takes() -> None:
    job = load("kuberay-rayjob.yaml")["spec"]["entrypoint"]
    lines = [job.partition(" || ")[0]]
    for text in scripts().values():
        lines += [
            line.strip().removesuffix(" &") for line in text.splitlines() if line.strip().startswith("dimoo-batch")
        ]
    assert len(lines) == 3
    for line in lines:
        parse(line)
