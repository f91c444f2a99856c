"""Small sizes of the scale benchmark: its numbers are right, not that they are good."""

import json
from pathlib import Path

import pytest

from benchmarks.scale.__main__ import main
from benchmarks.scale.bit_store import BitStore
from benchmarks.scale.simulated_pool import Fleet
from benchmarks.scale.simulated_run import plan_of, scan_ids, start_run
from pipeline.output.directory import RunDirectory
from pipeline.output.parts import PartName
from tests.support.run_output import RunOutput


def test_workers_that_are_alike_and_never_die_are_always_busy() -> None:
    plan = plan_of(64 * 100, 64)
    fleet = Fleet(num_workers=10, jitter_ratio=0, straggler_ratio=0, deaths_per_hour=0)
    result = start_run(BitStore(plan), plan, fleet)
    assert result["utilisation"] == pytest.approx(1.0, abs=0.01)
    assert result["span_s"] == pytest.approx(640, rel=0.01)
    assert (result["deaths"], result["rows_failed"]) == (0, 2)


def test_work_of_workers_that_died_does_not_count_as_useful() -> None:
    plan = plan_of(64 * 100, 64)
    result = start_run(BitStore(plan), plan, Fleet(num_workers=10, straggler_ratio=0, deaths_per_hour=5))
    assert result["deaths"] >= 4
    assert result["utilisation"] < 0.9


def test_a_second_start_counts_every_part_and_finds_nothing_to_do() -> None:
    plan = plan_of(64 * 60, 64)
    store = BitStore(plan)
    first = start_run(store, plan, Fleet(num_workers=3, deaths_per_hour=0))
    second = start_run(store, plan, Fleet(num_workers=3, deaths_per_hour=0))
    assert (first["rows_resumed"], second["rows_resumed"]) == (0, plan.num_rows)
    assert first["rows_failed"] == second["rows_failed"] == 2


def test_a_store_of_bits_is_a_store_of_parts() -> None:
    plan = plan_of(200, 64)
    store = BitStore(plan)
    run = RunDirectory(store)
    for segment in plan:
        run.commit(PartName(segment.name), *store.part_of(segment))
    assert list(run.committed_segments(plan)) == list(plan)
    assert len(run.summary(PartName("0000000-00000")).failures) == 1
    assert run.summary(PartName("0000000-00001")).num_done == 64


def test_ids_are_scanned_in_batches(tmp_path: Path) -> None:
    assert scan_ids(70_000, tmp_path) > 0


def test_a_run_with_null_workers_is_a_whole_run(tmp_path: Path) -> None:
    """In this process, where the benchmark has processes: those take seconds to import torch."""
    from benchmarks.scale.null_run import write_manifest
    from benchmarks.scale.null_worker import NullWorker
    from manifests.row.settings import RowDefaults
    from pipeline.driver.leases import LeaseBook
    from pipeline.manifest import open_manifest
    from pipeline.protocol.messages import Event, LeaseQueue
    from tests.support.run_settings import cpu_settings

    for kind in ("texts", "images"):
        manifest = tmp_path / f"{kind}.parquet"
        write_manifest(manifest, kind, 10)
        settings = cpu_settings(str(tmp_path / kind), model="null")
        leases, events = LeaseQueue(), list[Event]()
        book = LeaseBook(open_manifest(str(manifest), defaults=RowDefaults()).plan(segment_rows=4, limit=None))
        while lease := book.next_for("a"):
            leases.put(lease)
        leases.put(None)
        worker = NullWorker(settings, events.append)
        worker.run(leases)
        assert len(RunOutput(tmp_path / kind).rows()) == 10
        assert worker.store.counts["put"] == (3 if kind == "texts" else 13)


def test_the_command_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fleet", "--rows", "2000", "--workers", "5", "--json", str(tmp_path / "fleet.json")])
    assert "5 workers, 2000 rows in" in capsys.readouterr().out
    written = json.loads((tmp_path / "fleet.json").read_text())
    assert written["settings"]["rows"] == 2000
    assert 0 < written["results"]["utilisation"] <= 1
