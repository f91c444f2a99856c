"""When a start takes a run for its own: by its description, or by its parts if that is lost."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dimoo_core.checkpoint.load import Model
from dimoo_core.errors import ConfigError
from pipeline.storage.reader import open_store
from tests.support.manifest_rows import write_manifest
from tests.support.run_output import RunOutput
from tests.support.six_rows import IDS, write_six_rows
from tests.support.six_rows import run_in_twos as run

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_six_rows(tmp_path)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"dtype": "bfloat16"}, "dtype: 'float32' there, 'bfloat16' now"),
        ({"limit": 4}, "limit: None there, 4 now"),
        ({"pipeline": {"segment_rows": 3}}, "pipeline.segment_rows: 2 there, 3 now"),
        ({"image": {"format": "jpeg", "quality": 80}}, "image.format: 'png' there, 'jpeg' now; image.quality: 95"),
        ({"understanding": {"temperature": 0.5}}, "(understanding.temperature: 0.0 there, 0.5 now)"),
        ({"understanding": {"resolution": 64}}, "(understanding.resolution: 32 there, 64 now)"),
        ({"engine": {"batch_invariance": "off"}}, "(engine.batch_invariance: 'auto' there, 'off' now)"),
        ({"preset": "reference-cache"}, "(preset: 'exact' there, 'reference-cache' now)"),
        ({"prompt": "What else?"}, "(prompt: None there, 'What else?' now)"),
    ],
)
def test_a_resume_that_would_give_other_results_is_refused(
    change: dict[str, Any], difference: str, manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    before = RunOutput(tmp_path / "out").keys()
    with pytest.raises(ConfigError) as caught:
        run(manifest, tmp_path / "out", tiny_checkpoint, **change)
    assert difference in str(caught.value)
    assert str(tmp_path / "out") in str(caught.value)
    assert RunOutput(tmp_path / "out").keys() == before


def test_a_resume_with_another_manifest_or_model_is_refused(
    manifest: Path, tiny_checkpoint: Path, odd_checkpoint: Path, tmp_path: Path
) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    with pytest.raises(ConfigError, match="model_digest: '"):
        run(manifest, tmp_path / "out", odd_checkpoint)
    rows = pq.read_table(manifest).to_pylist()
    write_manifest(manifest, [*rows[:-1], rows[-1] | {"id": "new"}])
    with pytest.raises(ConfigError, match=rf"the manifest has changed: {len(rows)} rows then, {len(rows)} now"):
        run(manifest, tmp_path / "out", tiny_checkpoint)


def test_a_run_that_has_committed_nothing_can_be_started_again(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_model(*args: object, **options: object) -> Model:
        raise ConfigError("no such device")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.worker.worker.load_model", load_model)
        with pytest.raises(ConfigError, match="no such device"):
            run(manifest, tmp_path / "out", tiny_checkpoint, seed=1)
    with pytest.raises(ConfigError, match=r"seed: 1 there, 0 now.* or delete its run\.json"):
        run(manifest, tmp_path / "out", tiny_checkpoint)
    (tmp_path / "out" / "run.json").unlink()
    run(manifest, tmp_path / "out", tiny_checkpoint)
    RunOutput(tmp_path / "out").check_complete(IDS)


def test_settings_that_decide_no_results_may_change(manifest: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    open_store(str(tmp_path / "out")).delete("parts/0000000-00002.parquet")
    (tmp_path / "moved").mkdir()
    moved = manifest.rename(tmp_path / "moved" / manifest.name)
    spec = {"segment_rows": 2, "max_rows_in_flight": 3, "fetch_threads": 1, "store_threads": 2}
    run(moved, tmp_path / "out", tiny_checkpoint, pipeline=spec, engine={"max_step_tokens": 100})
    RunOutput(tmp_path / "out").check_complete(IDS)


def test_a_lost_description_is_written_again_by_the_command_that_wrote_it(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    store = open_store(str(tmp_path / "out"))
    results = json.loads(store.get("run.json"))["results"]
    store.delete("run.json")
    store.delete("parts/0000000-00002.parquet")
    run(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": None})  # their size is that of the parts
    assert json.loads(store.get("run.json"))["results"] == results
    RunOutput(tmp_path / "out").check_complete(IDS)


def test_parts_without_a_description_are_not_reused_by_other_settings(
    manifest: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run(manifest, tmp_path / "out", tiny_checkpoint)
    store = open_store(str(tmp_path / "out"))
    store.delete("run.json")
    with pytest.raises(ConfigError, match=r"no run\.json, and they are not of this manifest with these settings"):
        run(manifest, tmp_path / "out", tiny_checkpoint, seed=1)
    for key in list(store.list("parts/")):
        store.put(key, b"PAR1 and nothing more")
    with pytest.raises(ConfigError, match=r"no run\.json, and none can be read"):
        run(manifest, tmp_path / "out", tiny_checkpoint)
    assert store.size("run.json") is None
