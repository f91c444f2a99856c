"""A run with a LoRA adapter, from the job spec to the results."""

from pathlib import Path

import pytest

from dimoo_core.errors import ConfigError, WeightsError
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.run_output import RunOutput
from tests.unit.dimoo_core.checkpoint.test_lora import made_by_peft


def test_an_adapter_belongs_to_what_a_run_is(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    adapter, output = tmp_path / "adapter", tmp_path / "out"
    made_by_peft(tiny_checkpoint, adapter)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a"), image_row("b")])
    with pytest.raises(WeightsError, match=r"^adapter: no checkpoint at 'nowhere/to/be/found'"):
        run_here(manifest, output, tiny_checkpoint, adapter="nowhere/to/be/found")
    run_here(manifest, output, tiny_checkpoint, adapter=str(adapter))
    run_here(manifest, tmp_path / "plain", tiny_checkpoint)
    assert RunOutput(output).results().keys() == RunOutput(tmp_path / "plain").results().keys()
    assert RunOutput(output).results() != RunOutput(tmp_path / "plain").results()
    with pytest.raises(ConfigError, match="adapter_digest"):
        run_here(manifest, output, tiny_checkpoint)
