"""The benchmark of the full size, at a small one."""

import json
from pathlib import Path

import pytest

from benchmarks.full_size import main

_SMALL = [
    "--hidden-size",
    "16",
    "--num-layers",
    "1",
    "--num-heads",
    "2",
    "--num-kv-heads",
    "2",
    "--mlp-size",
    "32",
    "--num-shards",
    "2",
]


def test_a_small_shape_is_written_loaded_measured_and_removed(tmp_path: Path) -> None:
    result, directory = tmp_path / "result.json", tmp_path / "weights"
    main(["--directory", str(directory), "--result", str(result), *_SMALL])
    found = json.loads(result.read_text())
    assert found["file_bytes"] > found["weight_bytes"] > 0
    assert found["peak_bytes"] > found["weight_bytes"]
    assert found["load_cold_s"] > found["read_warm_s"]
    assert not directory.exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds something else"):
        main(["--directory", str(tmp_path), *_SMALL])
    assert (tmp_path / "config.json").read_text() == "{}"
