"""The doctor names the cause of faults that were planted, each with what mends it."""

import json
import os
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dimoo_core.memory.check import FreeMemory
from jobs.cli import app
from jobs.tools import doctor as machine_diagnosis
from jobs.tools.doctor import (
    Diagnosis,
    diagnose_disk,
    diagnose_gpu,
    diagnose_model,
    diagnose_ray,
    diagnose_shared_memory,
    diagnose_store,
    diagnose_versions,
)
from tests.support.fault_proxy import running_fault_proxy
from tests.support.s3_server import S3Server

Usage = namedtuple("Usage", "total used free")


def wrong(diagnoses: list[Diagnosis]) -> Diagnosis:
    """The only thing that is wrong; it says how to mend it."""
    (found,) = [diagnosis for diagnosis in diagnoses if diagnosis.verdict == "wrong"]
    assert found.fix
    return found


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the driver's program, as far as anybody can see without a GPU."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_a_package_of_the_wrong_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = machine_diagnosis._version
    monkeypatch.setattr(machine_diagnosis, "_version", lambda name: "2.40.0" if name == "ray" else known(name))
    assert "ray is 2.40.0, required is " in wrong(list(diagnose_versions())).found


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = machine_diagnosis._version
    monkeypatch.setattr(machine_diagnosis, "_version", lambda name: None if name == "pyarrow" else known(name))
    assert wrong(list(diagnose_versions())).found == "pyarrow is not installed"


def test_a_torch_without_cuda_on_a_machine_with_a_gpu_is_named(nvidia: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.version.cuda", None)
    found = wrong([diagnose_gpu()])
    assert "is built without CUDA" in found.found


def test_gpus_that_the_environment_hides_are_named(nvidia: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES='' hides all GPUs" in wrong([diagnose_gpu()]).found


def test_a_driver_that_torch_cannot_use_is_named(nvidia: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.version.cuda", "12.8")
    assert "torch (CUDA 12.8) cannot use" in wrong([diagnose_gpu()]).found


def test_too_little_shared_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(64 * 2**20, 0, 64 * 2**20))
    found = wrong([diagnose_shared_memory(tmp_path)])
    assert "has 64 MiB" in found.found
    assert "--shm-size" in found.fix


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 10**12, 10**6))
    assert "GiB free in" in wrong([diagnose_disk()]).found


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = wrong([diagnose_ray(address)])
    assert f"no Ray cluster at '{address}'" in found.found
    assert "RAY_ADDRESS" in found.fix


def test_a_bucket_that_does_not_exist_is_named(s3_env: S3Server) -> None:
    found = wrong(list(diagnose_store("s3://no-such-bucket/out")))
    assert "no-such-bucket" in found.found
    assert "create the bucket" in found.fix


def test_credentials_that_are_refused_are_named(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    found = wrong(list(diagnose_store(f"s3://{s3_bucket}/out")))
    assert "credentials" in found.fix


def test_a_store_that_ignores_conditions_is_named(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_fault_proxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.answer("PUT", 200, times=2)
        found = wrong(list(diagnose_store(f"s3://{s3_bucket}/out")))
    assert "ConditionalWriteIgnored" in found.found
    assert "conditional writes" in found.fix


def test_an_aws_profile_that_does_not_exist_is_named(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    found = wrong(list(diagnose_store("s3://bucket/out")))
    assert "nobody" in found.found
    assert "AWS_PROFILE" in found.fix


def test_an_output_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in wrong(list(diagnose_store(str(tmp_path / "file" / "out")))).found


def test_a_checkpoint_that_lacks_a_tensor_is_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_checkpoint, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    name = sorted(tensors)[0]
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, broken / "model.safetensors")
    found = wrong(list(diagnose_model(str(broken))))
    assert "lacks 1 tensors" in found.found
    assert name in found.found


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    assert "not a Lumina-DiMOO checkpoint" in wrong(list(diagnose_model(str(tmp_path)))).found


def test_a_model_for_which_there_is_no_memory_is_wrong(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = FreeMemory(words="on this machine", num_bytes=2**20)
    monkeypatch.setattr("dimoo_core.memory.check.free_memory", lambda: [limit])
    found = wrong(list(diagnose_model(str(tiny_checkpoint))))
    assert "1 MiB are free on this machine" in found.found
    assert "a GPU with" in found.fix


def test_a_model_that_was_not_downloaded_yet_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert [each.verdict for each in diagnose_model("someone/never-downloaded")] == ["warning"]


def test_a_sound_machine_has_nothing_wrong(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ended = command("doctor", "--output", f"s3://{s3_bucket}/out", "--json")
    assert ended.exit_code == 0, ended.output
    found = {entry["subject"]: entry["verdict"] for entry in json.loads(ended.stdout)}
    assert found.keys() == {"python", "packages", "gpu", "memory", "disk", "ray", "model", "model memory", "store"}


def test_what_is_wrong_is_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ended = command("doctor", "--model", str(tmp_path))
    assert ended.exit_code == 1
    assert "WRONG    model" in ended.stdout
    assert "fix: " in ended.stdout


def test_the_embedded_and_the_published_model_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    entries = json.loads(command("models", "--json").stdout)
    assert [(entry["name"], entry["state"]) for entry in entries] == [
        ("builtin", "usable"),
        ("Alpha-VLLM/Lumina-DiMOO", "not on this machine"),
    ]
    assert "2.9 million parameters" in command("models").stdout


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))
