"""``dimoo-batch bench``: what it measures, how it counts, what it says."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dimoo_core.request.request import RequestFailed
from jobs.cli import app
from jobs.tools import bench as machine_bench
from jobs.tools.bench_cases import BenchResult, bench_cases, bench_lines
from manifests.row.settings import RowDefaults

SMALL = (
    "text_to_image.steps=4",
    "understanding.max_tokens=8",
    "understanding.block_length=8",
    "understanding.steps=4",
    "understanding.resolution=32",
    "device=cpu",
    "engine.max_step_tokens=64",
)


def bench(model: Path, *more: str, exit_code: int = 0) -> Any:
    settings = [word for override in SMALL for word in ("--set", override)]
    ended = CliRunner().invoke(app, ["bench", "--model", str(model), "--size", "32x32", *settings, *more])
    assert ended.exit_code == exit_code, ended.output
    return ended


def test_every_preset_is_measured_with_images_and_captions(tiny_checkpoint: Path) -> None:
    found = json.loads(
        bench(tiny_checkpoint, "--size", "64x32", "--preset", "exact", "--preset", "fast", "--json").stdout
    )
    cases = [(case["task"], case["size"], case["preset"]) for case in found["cases"]]
    assert cases == [
        (task, size, preset)
        for preset in ("exact", "fast")
        for task, size in (("text_to_image", "32x32"), ("text_to_image", "64x32"), ("caption", "8 tokens"))
    ]
    assert (found["device"], found["dtype"], found["max_step_tokens"]) == ("cpu", "float32", 64)
    for case in found["cases"]:
        assert case["error"] is None
        assert case["is_complete"]
        assert case["rows"] >= 1
        rounding = case["rows_per_hour"] * 0.0006 / 3600  # the seconds are in thousandths
        assert case["rows_per_hour"] * case["seconds"] / 3600 == pytest.approx(case["rows"], abs=rounding)
        assert 0 < case["engine_busy_ratio"] <= 1
        assert case["batch_fill_ratio"] > 0
        assert case["peak_memory_bytes"] > 2**20


def test_a_case_that_is_stopped_counts_the_steps_that_were_made(tiny_checkpoint: Path) -> None:
    more = ("--task", "text_to_image", "--preset", "exact", "--rows", "1", "--set", "text_to_image.steps=16")
    (case,) = json.loads(bench(tiny_checkpoint, *more, "--max-seconds", "0.1", "--json").stdout)["cases"]
    assert case["rows"] == 1 if case["is_complete"] else 0 < case["rows"] < 1
    assert 16 * case["rows"] == pytest.approx(round(16 * case["rows"]), abs=0.001)


def test_people_get_a_table(tiny_checkpoint: Path) -> None:
    lines = bench(tiny_checkpoint, "--task", "caption", "--preset", "exact", "--rows", "2").stdout.splitlines()
    assert str(tiny_checkpoint) in lines[0]
    assert lines[1].split("  ")[0] == "task"
    assert lines[2].startswith("caption")
    assert lines[2].endswith("GiB")


def test_a_request_that_fails_is_told(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = machine_bench.Engine.step

    def failing(engine: machine_bench.Engine) -> list[Any]:
        return [RequestFailed(request_id=each.request_id, error=MemoryError("too large")) for each in step(engine)]

    monkeypatch.setattr(machine_bench.Engine, "step", failing)
    ended = bench(tiny_checkpoint, "--task", "caption", "--preset", "exact", exit_code=1)
    assert "caption 8 tokens, exact: too large" in ended.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--size", "big"), "--size needs WIDTHxHEIGHT, such as 1024x1024, got 'big'"),
        (("--size", "30x32"), "width"),
        (("--task", "edit"), "--task must be one of text_to_image, caption, got 'edit'"),
        (("--preset", "fats"), "fast"),
        (("--set", "nothing=1"), "unknown key 'nothing'"),
    ],
)
def test_wrong_options_are_told(more: tuple[str, ...], words: str, tiny_checkpoint: Path) -> None:
    assert words in bench(tiny_checkpoint, *more, exit_code=2).stderr


def test_without_a_size_it_is_that_of_the_job() -> None:
    cases = bench_cases(RowDefaults(), ("exact",), (), ("text_to_image", "caption"))
    assert [case.size for case in cases] == ["1024x1024", "1024 tokens"]
    assert cases[0].num_steps == 64


def test_a_stopped_case_is_marked() -> None:
    result = BenchResult(
        task="caption",
        preset="exact",
        size="8 tokens",
        steps=8,
        rows=0.5,
        is_complete=False,
        seconds=1.0,
        rows_per_hour=1800.0,
        tokens_per_s=9.0,
        engine_busy_ratio=0.9,
        batch_fill_ratio=0.5,
        peak_memory_bytes=2**30,
    )
    machine = {"model": "m", "device_name": "cpu", "dtype": "float32", "torch": "2"}
    assert "~1,800.0" in list(bench_lines(machine, [result]))[-1]
