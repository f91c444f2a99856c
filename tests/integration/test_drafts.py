"""Rows that were finished before a run broke off, in segments that were not: adopted when they are what they say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import pipeline.worker.worker
from jobs.run.resume import ResumeOptions
from pipeline.errors import RunFailed
from pipeline.output.partials import PARTIALS_PREFIX
from pipeline.storage.base import Store
from pipeline.storage.reader import open_store
from pipeline.verify.audit import RunAudit
from tests.support.breaking_disk import BreakingDisk
from tests.support.damage import table_of, write
from tests.support.in_process import run_here
from tests.support.manifest_rows import FAST_SETTINGS, image_row, write_manifest
from tests.support.run_output import RunOutput
from tests.support.stub_model import use_stub_model

IDS = [f"row{number}" for number in range(12)]
ONE_BY_ONE = {"segment_rows": 6, "flush_rows": 1, "max_rows_in_flight": 1, "fetch_threads": 1, "store_threads": 1}


class Made(list[str]):
    """Ids of the rows that were made, and not adopted, since the last look."""

    def taken(self) -> list[str]:
        ids = sorted(self, key=IDS.index)
        self.clear()
        return ids


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    use_stub_model(monkeypatch)
    ids, preprocess = Made(), pipeline.worker.worker.Preprocessor.preprocess

    def noted(preprocessor: Any, row: Any, folder: str) -> Any:
        ids.append(row.id)
        return preprocess(preprocessor, row, folder)

    monkeypatch.setattr(pipeline.worker.worker.Preprocessor, "preprocess", noted)
    return ids


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "m.parquet", [image_row(row_id) for row_id in IDS])


def run(manifest: Path, **more: Any) -> Any:
    spec: dict[str, Any] = {"pipeline": ONE_BY_ONE} | more
    return run_here(manifest, manifest.parent / "out", Path("stub"), **spec)


def break_off(manifest: Path, num_images: int, patch: pytest.MonkeyPatch, **more: Any) -> RunOutput:
    """Run until so many images are stored and the next one cannot be."""
    with patch.context() as disk:
        BreakingDisk(("images/",), num_images).install(disk)
        with pytest.raises(RunFailed):
            run(manifest, **more)
    return RunOutput(manifest.parent / "out")


def check_good(output: RunOutput) -> None:
    output.check_complete(IDS)
    findings: list[object] = []
    assert RunAudit(output.store, findings.append, findings.append).run().has_ended
    assert findings == []
    assert output.keys(PARTIALS_PREFIX) == []


def test_of_a_segment_that_broke_off_only_the_rows_in_flight_are_made_again(
    made: Made, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = break_off(manifest, 9, monkeypatch)
    assert made.taken() == IDS[:10]
    assert len(output.keys("parts/")) == 1
    assert len(output.keys(PARTIALS_PREFIX)) == 3
    run(manifest)
    assert made.taken() == IDS[9:]
    check_good(output)


def test_rows_since_the_last_flush_are_made_again(made: Made, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline_keys = {"pipeline": ONE_BY_ONE | {"flush_rows": 2}}
    output = break_off(manifest, 9, monkeypatch, **pipeline_keys)
    made.taken()
    run(manifest, **pipeline_keys)
    assert made.taken() == IDS[8:]
    check_good(output)


def test_without_a_flush_all_rows_of_the_segment_are_made_again(
    made: Made, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline_keys = {"pipeline": ONE_BY_ONE | {"flush_rows": None, "flush_s": None}}
    output = break_off(manifest, 9, monkeypatch, **pipeline_keys)
    assert output.keys(PARTIALS_PREFIX) == []
    made.taken()
    run(manifest, **pipeline_keys)
    assert made.taken() == IDS[6:]
    check_good(output)


def test_a_run_of_reused_rows_ends_with_the_parts_of_one_that_never_broke_off(
    made: Made, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = break_off(manifest, 9, monkeypatch)
    run(manifest)
    whole = run_here(manifest, tmp_path / "whole", Path("stub"), pipeline=ONE_BY_ONE)
    for key in broken.keys("parts/"):
        ours, theirs = table_of(broken.store, key), table_of(open_store(whole.output), key)
        assert ours.replace_schema_metadata().equals(theirs.replace_schema_metadata())


def test_rows_are_made_again_when_a_setting_was_allowed_to_change(
    made: Made, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = break_off(manifest, 9, monkeypatch)
    made.taken()
    from jobs.run.run import run_job
    from jobs.spec.spec import load_spec

    flags = {"manifest": str(manifest), "output": str(tmp_path / "out"), "model": "stub", "workers": 0, "seed": 7}
    sections = {"pipeline": ONE_BY_ONE} | FAST_SETTINGS
    run_job(load_spec(None, flags | sections, []), ResumeOptions(accepted=("seed",)))
    assert made.taken() == IDS[6:]
    check_good(output)


def first_draft(store: Store) -> str:
    return min(store.list(PARTIALS_PREFIX), key=lambda key: table_of(store, key).column("row")[0].as_py())


def image_of_draft(store: Store) -> str:
    return str(table_of(store, first_draft(store)).column("output")[0].as_py())


def with_other_row(store: Store) -> None:
    key = first_draft(store)
    table = table_of(store, key)
    index = table.schema.get_field_index("row")
    write(store, key, table.set_column(index, table.schema.field("row"), pa.array([8], pa.int64())))


DAMAGES: dict[str, Callable[[Store], None]] = {
    "the draft is cut off": lambda store: store.put(first_draft(store), store.get(first_draft(store))[:-20]),
    "the draft is empty": lambda store: store.put(first_draft(store), b""),
    "the draft is another table": lambda store: write(store, first_draft(store), pa.table({"row": [6]})),
    "the draft is gone": lambda store: store.delete(first_draft(store)),
    "the draft says to be of another row": with_other_row,
    "the image is gone": lambda store: store.delete(image_of_draft(store)),
    "the image is another": lambda store: store.put(image_of_draft(store), b"x" * 100),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_not_as_its_partial_segment_says_is_made_again(
    name: str, made: Made, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = break_off(manifest, 9, monkeypatch)
    made.taken()
    DAMAGES[name](output.store)
    run(manifest)
    assert made.taken() == [IDS[6], *IDS[9:]]
    check_good(output)


def test_a_partial_segment_that_arrives_after_its_segment_was_committed_is_removed_by_the_next_start(
    made: Made, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = break_off(manifest, 9, monkeypatch)
    key = first_draft(output.store)
    late = output.store.get(key)
    run(manifest)
    output.store.put(key, late)
    findings: list[object] = []
    orphans: list[str] = []
    assert RunAudit(output.store, findings.append, orphans.append).run().has_ended
    assert (findings, orphans) == ([], [key])
    run(manifest)
    check_good(output)
