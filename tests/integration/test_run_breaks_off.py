"""What ends a run before its end: told in one line, with exit status 1, and the same command goes on."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dimoo_core.engine.engine import Engine
from pipeline.storage.errors import StoreError
from pipeline.storage.local import LocalStore
from pipeline.storage.reader import ObjectReader
from tests.support.in_process import check_one_line, command, run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

pytestmark = pytest.mark.usefixtures("loaded_once")

IDS = [f"row{number}" for number in range(6)]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.parquet", [image_row(row_id, width=32, height=32, steps=2) for row_id in IDS])


def call(manifest: Path, model: Path, *more: str) -> Any:
    output = manifest.parent / "out"
    settings = ("--set", "pipeline.segment_rows=2", "--set", "understanding.resolution=32")
    return command(manifest, "-o", output, "--model", model, "--workers", 0, *settings, *more)


def check_resumes(manifest: Path, model: Path) -> None:
    result = call(manifest, model)
    assert result.exit_code == 0, result.stderr
    RunOutput(manifest.parent / "out").check_complete(IDS)


def test_an_engine_that_fails_is_told_with_the_rows_that_were_in_it(
    manifest: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(engine: Engine) -> None:
        raise RuntimeError("CUDA error: an illegal memory access\nCompile with TORCH_USE_CUDA_DSA")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", step)
        result = call(manifest, tiny_checkpoint)
    assert result.exit_code == 1
    check_one_line(result.stderr, "RuntimeError: CUDA error: an illegal memory access", "rows in the engine: row")
    assert f"0 of {len(IDS)} rows committed to {manifest.parent / 'out'}. Re-run the same command" in result.stderr
    assert result.stdout == ""
    check_resumes(manifest, tiny_checkpoint)


def test_a_request_that_does_not_fit_the_memory_fails_alone(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that do not fit are halved until they do; what does not fit alone is a failed row."""
    advance = Engine._advance
    sizes: list[int] = []

    def advance_if_it_fits(engine: Engine, states: list[Any], failed: list[Any]) -> None:
        sizes.append(sum(state.num_tokens for state in states))
        if sizes[-1] > 150:
            raise torch.OutOfMemoryError("out of memory")
        advance(engine, states, failed)

    monkeypatch.setattr(Engine, "_advance", advance_if_it_fits)
    rows = [image_row(row_id) for row_id in IDS]
    rows[2] |= {"width": 256, "height": 256}
    run_here(write_manifest(tmp_path / "m.parquet", rows), tmp_path / "out", tiny_checkpoint)
    output = RunOutput(tmp_path / "out")
    output.check_complete(IDS)
    assert max(sizes) > 150
    failure = output.failed_by_id()
    assert list(failure) == ["row2"]
    assert (failure["row2"]["stage"], failure["row2"]["error_type"]) == ("generate", "BatchTooLarge")
    assert "ask for a smaller image" in failure["row2"]["message"]


@pytest.mark.parametrize("folder", ["images", "parts"])
def test_an_output_that_can_no_longer_be_written_ends_the_run_and_can_be_fixed(
    folder: str, manifest: Path, tiny_checkpoint: Path
) -> None:
    obstacle = manifest.parent / "out" / folder
    obstacle.parent.mkdir()
    obstacle.write_text("a file where a folder has to be")
    result = call(manifest, tiny_checkpoint)
    assert result.exit_code == 1
    check_one_line(result.stderr, str(obstacle), "a part of the path is a file")
    assert "rows in the engine" not in result.stderr
    obstacle.unlink()
    check_resumes(manifest, tiny_checkpoint)


def test_a_store_that_stays_unreachable_ends_the_run_after_some_retries(
    manifest: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []
    put_really = LocalStore.put

    def put(store: LocalStore, key: str, data: bytes, **options: Any) -> Any:
        if not key.startswith("images/"):
            return put_really(store, key, data, **options)
        tries.append(key)
        raise StoreError("write", store.uri_of(key), "EndpointConnectionError", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.storage.retry.MAX_TRIES", 3)
        patch.setattr("pipeline.storage.retry.MAX_WAIT_S", 0.01)
        patch.setattr(LocalStore, "put", put)
        patch.setattr(LocalStore, "check_writable", lambda store: None)
        result = call(manifest, tiny_checkpoint)
    assert result.exit_code == 1
    check_one_line(result.stderr, "cannot write", "images/0000000/", "EndpointConnectionError")
    assert max(tries.count(key) for key in tries) == 3
    check_resumes(manifest, tiny_checkpoint)


def unreachable(reader: ObjectReader, uri: str, max_bytes: int) -> bytes:
    raise StoreError("read", uri, "EndpointConnectionError", retryable=True)


def test_images_that_cannot_be_reached_for_long_end_the_run_instead_of_failing_row_after_row(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    manifest = write_manifest(tmp_path / "m.parquet", [text_row(row_id, "a.png", max_tokens=8) for row_id in IDS])
    with monkeypatch.context() as patch:
        patch.setattr(ObjectReader, "read", unreachable)
        policy = ("failures.tries.store=2", "failures.first_wait_s=0.01")
        result = call(manifest, tiny_checkpoint, *(word for setting in policy for word in ("--set", setting)))
    assert result.exit_code == 1
    check_one_line(result.stderr, "cannot read", "a.png: EndpointConnectionError")
    assert RunOutput(tmp_path / "out").keys("parts/") == []
    check_resumes(manifest, tiny_checkpoint)


def test_a_thread_that_cannot_be_started_is_told_and_not_waited_for(
    manifest: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse_feeder(thread: threading.Thread) -> None:
        if thread.name == "feed":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_feeder)
        result = call(manifest, tiny_checkpoint)
    assert result.exit_code == 1
    check_one_line(result.stderr, "can't start new thread")
    check_resumes(manifest, tiny_checkpoint)


def test_a_checkpoint_without_a_tensor_is_wrong_input(manifest: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    tensors = load_file(model / "model.safetensors")
    missing, _ = tensors.popitem()
    save_file(tensors, model / "model.safetensors")
    result = call(manifest, model)
    assert result.exit_code == 2
    check_one_line(result.stderr, str(model), missing)
    assert RunOutput(tmp_path / "out").keys("parts/") == []


def test_a_model_that_is_nowhere_is_wrong_input(manifest: Path, tmp_path: Path) -> None:
    result = call(manifest, tmp_path / "nothing")
    assert result.exit_code == 2
    check_one_line(result.stderr, "no checkpoint at", "give builtin, a directory, OWNER/NAME")
