import json
from pathlib import Path

import pytest

import dimoo_core.checkpoint.weights
from benchmarks import loading


def test_all_contenders_load_the_same_weights_by_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    small = ["--layers", "1", "--hidden-size", "128", "--repeats", "2", "--directory", str(tmp_path)]
    loading.main([*small, "--json", str(out)])
    result = json.loads(out.read_text())
    assert result["num_bytes"] > 2 * (2 * 4096 * 128 + 4 * 128**2 + 3 * 3 * 128**2)
    assert set(result["results"]) == {"neither", "look, one after the other", "read ahead", "look and read ahead"}
    for times in result["results"].values():
        assert len(times["wall_s"]) == len(times["cpu_s"]) == 2
        assert min(times["wall_s"]) > 0
    assert result["results"]["neither"]["wall_ratio"] == 1
    assert list(tmp_path.iterdir()) == [out], "the weights are gone"
    assert "look and read ahead: " in capsys.readouterr().out


def test_what_a_contender_leaves_out_is_what_the_loader_calls() -> None:
    for stand_ins in loading._CONTENDERS.values():
        for name in stand_ins:
            assert callable(getattr(dimoo_core.checkpoint.weights, name))
    assert loading._CONTENDERS["look and read ahead"] == {}, "what is shipped"
