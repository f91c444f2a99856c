"""The benchmark of the whole pipeline, small: a run on S3 behind a slow proxy, and what its summary says."""

import json
from pathlib import Path

import pytest

from benchmarks import pipeline

_SMALL = ["--captions", "3", "--images", "1", "--megabytes", "0.1", "--resolution", "64", "--latency-ms", "10"]


@pytest.mark.soak
def test_a_run_on_slow_storage_reports_how_busy_its_engine_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pipeline.json"
    assert pipeline.main([*_SMALL, "--at-least", "0", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    summary = result["summary"]
    assert (summary["done"], summary["failed"]) == (4, 0)
    assert 0 < summary["engine_busy_ratio"] <= 1
    assert result["num_store_requests"] > 3 + 1 + 1  # photographs, the image, the part
    assert capsys.readouterr().out.splitlines()[-1].startswith("engine busy between its first and last step: ")


def test_photographs_are_as_large_as_asked_for_and_differ() -> None:
    first, second = (pipeline.photograph(seed, 0.5) for seed in (0, 1))
    assert 480_000 < len(first) < 520_000
    assert first != second
