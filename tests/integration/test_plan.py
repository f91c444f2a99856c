"""``dimoo-batch plan`` against the runs that it predicts."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from dimoo_core.engine.flops import Cost
from jobs.cli import app
from jobs.plan.lines import plan_lines
from jobs.plan.plan import Group, RunPlan
from jobs.plan.probe import Probe, _spread, _steady_seconds
from manifests.files.plan import ManifestFile, plan_shards
from pipeline.storage.reader import open_store
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import (
    FAST_SETTINGS,
    encoded,
    image_row,
    mixed_rows,
    picture,
    text_row,
    write_manifest,
    write_photos,
)
from tests.support.run_output import RunOutput
from tests.support.stub_model import use_stub_model


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def plan(
    manifest: object, output: object, model: Path, *more: object, exit_code: int = 0, **spec: Any
) -> dict[str, Any]:
    path = Path(str(output)).with_name("spec.json.yaml")
    path.write_text(json.dumps({**FAST_SETTINGS, **spec}))
    arguments = ["plan", manifest, "--output", output, "--model", model, "--spec", path, "--json", *more]
    ended = CliRunner().invoke(app, [*map(str, arguments), *(() if "--workers" in more else ("--workers", "0"))])
    assert ended.exit_code == exit_code, ended.output
    return json.loads(ended.stdout) if exit_code == 0 else {"message": ended.stderr}


def written(output: object) -> tuple[int, int]:
    """Objects of an output, and the bytes of its images and parts."""
    store = open_store(str(output))
    keys = list(store.list())
    return len(keys), sum(store.size(key) or 0 for key in keys if key.startswith(("images/", "parts/")))


def test_rows_and_objects_are_those_of_the_run_it_predicts(
    tmp_path: Path, tiny_checkpoint: Path, patch: pytest.MonkeyPatch
) -> None:
    load_models_once(patch)
    write_photos(tmp_path)
    rows = [*mixed_rows(), image_row("wrong", width=30), text_row("missing", "photos/none.png"), image_row("small")]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    found = plan(manifest, tmp_path / "out", tiny_checkpoint)
    assert not (tmp_path / "out").exists()
    summary = run_here(manifest, tmp_path / "out", tiny_checkpoint)
    assert (found["rows"], found["valid"], found["invalid"]) == (summary.rows, summary.done, summary.failed)
    assert found["objects"] == written(tmp_path / "out")[0]
    assert found["images"] == len(RunOutput(tmp_path / "out").keys("images/"))
    assert found["invalid_reasons"] == {"manifest: ManifestRowError": 2, "fetch: ObjectNotFound": 1}
    again = plan(manifest, tmp_path / "out", tiny_checkpoint)
    assert (again["done"], again["failed_before"]) == (summary.done, summary.failed)
    assert all(gpu["hours"] == 0 for gpu in again["gpus"])


def test_bytes_agree_within_a_tenth_after_a_probe(
    tmp_path: Path, tiny_checkpoint: Path, patch: pytest.MonkeyPatch
) -> None:
    load_models_once(patch)
    rows = [image_row(str(number), width=32 + 16 * (number % 2), height=32) for number in range(120)]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    found = plan(manifest, tmp_path / "out", tiny_checkpoint, "--probe", 12)
    assert not (tmp_path / "out").exists()
    assert found["probe"]["rows"] == 12
    assert found["probe"]["run_seconds"] > 0
    run_here(manifest, tmp_path / "out", tiny_checkpoint)
    assert found["bytes"] == pytest.approx(written(tmp_path / "out")[1], rel=0.1)


def test_probed_rows_come_from_all_over_and_do_not_fall_in_with_a_pattern() -> None:
    plan = plan_shards([ManifestFile("m", 1, 100, "d")], shard_rows=1000, segment_rows=1)
    rows = [segment.first_row for segment in _spread(plan, 20)]
    assert [row // 5 for row in rows] == list(range(20))
    assert {row % 5 for row in rows} == set(range(5))


@pytest.mark.parametrize(
    ("points", "seconds"),
    [
        ([[0.0, 0, 0, 0, 0.0], [10.0, 2, 100, 5, 9.0], [30.0, 20, 500, 25, 29.0]], 25.0),
        ([[0.0, 0, 0, 0, 0.0], [3.0, 20, 500, 25, 2.0]], None),  # too short
        ([[0.0, 0, 0, 0, 0.0], [9.0, 18, 400, 20, 8.0], [10.0, 20, 500, 25, 9.0]], None),  # nearly all before
    ],
)
def test_the_slow_first_steps_of_a_probe_do_not_count(
    points: list[list[float]], seconds: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.plan.probe.read_epoch_reports", lambda _: [SimpleNamespace(note={"points": points})])
    assert _steady_seconds(tmp_path) == seconds


@pytest.mark.soak
def test_arithmetic_agrees_within_two_hundredths_with_that_of_the_run(
    tmp_path: Path, patch: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a model of many layers: the plan takes all codes of an image to differ, which only the first layer sees."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    from benchmarks.random_checkpoint import write_random_checkpoint
    from dimoo_core.model.transformer import Transformer

    load_models_once(patch)
    deep_checkpoint = write_random_checkpoint(tmp_path / "deep", num_layers=12)
    image = encoded(picture(1, (64, 64)))
    rows = [
        image_row("plain", width=128, height=96, steps=6),
        image_row("guided", width=96, height=96, steps=6, cfg_scale=4.0),
        text_row("answer", image, max_tokens=32, block_length=16, steps=4),
        text_row("edit", image, task="edit", prompt="Make it red.", steps=4, cfg_scale=2.5),
    ]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    spec = {
        "image_to_image": {"resolution": 64},
        "engine": {"batch_invariance": "off"},
        "pipeline": {"max_rows_in_flight": 1},
    }
    found = plan(manifest, tmp_path / "out", deep_checkpoint, **spec)
    counted, lock = [0], threading.Lock()
    # torch counts attention on GPUs and leaves its kernel for CPUs out.
    attention = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v))
    }

    def counting(method: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            with FlopCounterMode(display=False, custom_mapping=attention) as counter:
                result = method(*arguments, **options)
            with lock:
                counted[0] += counter.get_total_flops()
            return result

        return call

    for name in ("forward", "logits"):
        monkeypatch.setattr(Transformer, name, counting(getattr(Transformer, name)))
    run_here(manifest, tmp_path / "out", deep_checkpoint, **spec)
    finished = RunOutput(tmp_path / "out").by_id()
    assert finished["answer"]["finish_reason"] == "length"
    assert found["flops"] == pytest.approx(counted[0], rel=0.02)


def test_a_hub_id_is_planned_without_its_files_and_names_gpus_and_prices(tmp_path: Path) -> None:
    rows = [image_row(str(number), width=1024, height=1024) for number in range(3)]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    arguments = ["plan", manifest, "--model", "Alpha-VLLM/Lumina-DiMOO", "--gpu", "A800", "--price", "A800=2", "--json"]
    ended = CliRunner().invoke(app, [*map(str, arguments)])
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    # 9.33 PFLOP an image of 1024x1024 in 64 steps with guidance is what the reference computes; the engine, 0.9 of it.
    assert 8.0e15 < found["flops"] / 3 < 9.33e15
    (gpu,) = found["gpus"]
    assert gpu["hours"] == pytest.approx(found["flops"] / (312e12 * 0.5) / 3600)
    assert gpu["usd"] == pytest.approx(2 * gpu["hours"], abs=0.01)
    assert found["is_estimated"]
    words = CliRunner().invoke(app, [*map(str, arguments[:-1])]).stdout
    assert "3 rows, 3 valid, 0 invalid" in words
    assert re.search(r"A800 +80 GB +[23]\.\d min +0\.\d\d USD", words)
    assert "text_to_image        1024x1024" in words


def told(*arguments: object) -> str:
    ended = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_no_table_of_gpus_is_told_where_it_says_nothing(tmp_path: Path, tiny_checkpoint: Path) -> None:
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a"), image_row("b", width=30)])
    arguments = (manifest, "--output", tmp_path / "out", "--model", tiny_checkpoint)
    assert "Remaining: under 1 minute on any listed GPU (at 50% of peak)" in told(*arguments)
    assert "under 1 minute on A100" in told(*arguments, "--gpu", "A100")
    assert "USD" not in told(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        use_stub_model(patch)
        run_here(manifest, tmp_path / "out", tiny_checkpoint)
    done = told(*arguments)
    assert "committed: 1 rows done, 1 failed; 0% remains" in done
    assert "what is left on one GPU" not in done


def test_texts_are_counted_as_the_most_that_they_may_be(tmp_path: Path, tiny_checkpoint: Path) -> None:
    image, text = image_row("a"), text_row("b", encoded(picture(1, (32, 32))))
    for rows, is_most in (([image], False), ([text], True), ([image, text], True)):
        manifest = write_manifest(tmp_path / "m.parquet", rows)
        found = told(manifest, "--output", tmp_path / "out", "--model", tiny_checkpoint)
        assert (re.search(r"^at most [\d,]+ tokens through the model, at most ", found, re.M) is not None) == is_most
        assert ("answers are counted at full length" in found) == is_most


def test_images_are_counted_as_the_most_that_they_may_be_where_steps_may_decide_more(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    for preset, is_most in (("exact", False), ("reference-cache", False), ("balanced", True)):
        arguments = ("--output", tmp_path / "out", "--model", tiny_checkpoint, "--set", f"preset={preset}")
        found = told(manifest, *arguments)
        assert ("at most " in found) == ("where the model is confident, it commits early" in found) == is_most


def test_the_estimate_of_a_probe_is_told_to_be_of_one_process() -> None:
    plan = RunPlan("m.parquet", "out", rows=2, groups={("a", "b"): Group("a", "b", 2, cost=Cost(10**12, 5))})
    probe = Probe(2, 1.0, 10**9, 10.0**9)
    for num_workers, words in ((1, "at 1.0 GFLOP/s; in one process"), (4, "one process, not of 4 workers")):
        (line,) = [line for line in plan_lines(plan, [], probe, num_workers=num_workers) if "this machine" in line]
        assert line.endswith(words)


def test_wrong_input_ends_with_2(tmp_path: Path, tiny_checkpoint: Path) -> None:
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    message = plan(manifest, tmp_path / "out", tiny_checkpoint, "--gpu", "GTX", exit_code=2)["message"]
    assert "GPU 'GTX' is not listed" in message
    message = plan(manifest, tmp_path / "out", tiny_checkpoint, "--probe", 5, exit_code=2)["message"]
    assert "--probe needs at least 2 rows" in message
