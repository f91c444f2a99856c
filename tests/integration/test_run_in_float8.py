"""A run whose layers have 8-bit weights."""

import json
from pathlib import Path

import pytest

from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from dimoo_core.errors import ConfigError
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput


def test_a_row_in_eight_bits_does_not_depend_on_its_batch_and_no_other_type_resumes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    model, output = find_checkpoint(BUILTIN).directory, tmp_path / "out"
    size = {"width": 80, "height": 48}
    rows = [image_row("a", **size), text_row("b", encoded(picture(0, (64, 64))), max_tokens=8), image_row("c", **size)]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    run_here(manifest, output, model, dtype="float8")
    together = RunOutput(output).results()
    for row in rows:
        alone = write_manifest(tmp_path / f"{row['id']}.parquet", [row])
        run_here(alone, tmp_path / row["id"], model, dtype="float8")
        assert RunOutput(tmp_path / row["id"]).results() == {row["id"]: together[row["id"]]}
    assert json.loads((output / "run.json").read_text())["results"]["dtype"] == "float8"
    with pytest.raises(ConfigError, match="dtype: 'float8' there, 'float32' now"):
        run_here(manifest, output, model)
