"""A run is killed with -9 in the middle of a segment: of its finished rows those not yet flushed are made again."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import running_command
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import FAST_SETTINGS, image_row, write_manifest
from tests.support.run_output import RunOutput

NUM_ROWS = 12
IDS = [f"row{number:02}" for number in range(NUM_ROWS)]
FLUSH_EACH_ROW: dict[str, Any] = {"segment_rows": NUM_ROWS, "flush_rows": 1, "max_rows_in_flight": 1}


@pytest.mark.soak
def test_the_tokens_of_a_resume_are_those_of_the_rows_that_were_not_flushed(
    place: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [image_row(row_id, prompt="a red bicycle", steps=8) for row_id in IDS]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    spec = FAST_SETTINGS | {"model": str(tiny_checkpoint), "workers": 0, "pipeline": FLUSH_EACH_ROW}
    load_models_once(monkeypatch)
    whole = run_here(manifest, tmp_path / "whole", tiny_checkpoint, pipeline=FLUSH_EACH_ROW)
    tokens_of_a_row, rest = divmod(whole.tokens, NUM_ROWS)
    assert rest == 0

    output = RunOutput(place)
    with running_command(manifest, place, spec) as running:
        running.wait_until(lambda: len(output.keys("_drafts/")) >= 2, "second draft")
        running.signal(signal.SIGKILL)
        assert running.wait().returncode == -signal.SIGKILL
    num_flushed = len(output.keys("_drafts/"))
    assert output.keys("parts/") == []
    assert 2 <= num_flushed < NUM_ROWS

    resumed = run_here(manifest, place, tiny_checkpoint, pipeline=FLUSH_EACH_ROW)
    assert resumed.tokens == (NUM_ROWS - num_flushed) * tokens_of_a_row
    assert (resumed.done, resumed.resumed) == (NUM_ROWS, 0)
    output.check_complete(IDS)
    assert output.results() == RunOutput(tmp_path / "whole").results()
    assert output.keys("_drafts/") == []
