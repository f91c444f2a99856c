import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import mixed
from benchmarks.mixed import KernelOptions, MixedBenchmark, throughput_ratios
from benchmarks.shape import TINY
from benchmarks.workload import mixed_requests

_TINY_RUN = ["--shape", "tiny", "--sizes", "64x64,64x32,32x32", "--steps", "3", "--count", "2", "--threads", "1"]


def test_a_mixed_run_is_set_against_one_of_each_kind_and_computes_no_padding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mixed.json"
    mixed.main([*_TINY_RUN, "--repeats", "2", "--out", str(out)])
    result = json.loads(out.read_text())
    assert len(result["ratios"]) == 2
    together, apart = result["ways"]
    assert together["flops"][0] == pytest.approx(apart["flops"][0], rel=0.1)  # streams shared at the first step differ
    padding = result["padding"]
    assert padding["padded_product_rows"] == padding["padded_query_rows"] == 0
    assert padding["product_rows"] > 0 < padding["query_rows"]
    assert "mixed throughput over separate: " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("preset", ["reference-cache", "fast"])
def test_cached_requests_are_not_padded_either(preset: str, tmp_path: Path) -> None:
    out = tmp_path / "mixed.json"
    mixed.main([*_TINY_RUN, "--preset", preset, "--repeats", "1", "--out", str(out)])
    padding = json.loads(out.read_text())["padding"]
    assert padding["padded_product_rows"] == padding["padded_query_rows"] == 0


def test_padding_would_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = F.linear

    def padded(x: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return linear(F.pad(x, (0, 0, 0, 3)), weight)[: len(x)]

    monkeypatch.setattr("dimoo_core.model.transformer.linear", padded)
    way = KernelOptions("mixed", [mixed_requests(TINY, num_steps=2)[:2]])
    padding = MixedBenchmark(TINY, 10_000).padding(way)
    assert padding["padded_product_rows"] > 0
    assert padding["padded_product_rows"] % 3 == 0


def test_throughput_is_compared_in_pairs() -> None:
    together, apart = (
        KernelOptions("mixed", [], [100, 100], [2.0, 4.0]),
        KernelOptions("separate", [], [100, 120], [1.0, 3.0]),
    )
    assert throughput_ratios(together, apart) == [0.5, 0.625]
