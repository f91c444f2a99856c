"""Segments that a worker died with: remembered, handed out last and alone, and their rows judged one by one."""

from pathlib import Path

import pytest

from manifests.errors import RowFailure
from manifests.files.plan import ManifestFile, Segment, plan_shards
from manifests.row.parse import Row
from pipeline.driver.leases import LeaseBook
from pipeline.output.poison_segments import CrashHistory, PoisonRecord
from pipeline.protocol.messages import Lease
from pipeline.protocol.settings import FailurePolicy, Tries
from pipeline.storage.local import LocalStore
from pipeline.worker.prefetch import IsolatedRows

SEGMENTS = list(plan_shards([ManifestFile("m.parquet", 1, 4, "d")], shard_rows=1000, segment_rows=1))
NAMES = [segment.name for segment in SEGMENTS]


@pytest.fixture
def record(tmp_path: Path) -> PoisonRecord:
    return PoisonRecord(LocalStore(str(tmp_path)))


def row(index: int) -> Row:
    from dimoo_core.settings import ImageSettings

    return Row(
        index=index, id=f"id{index}", task="text_to_image", prompt="?", image=None, settings=ImageSettings(), seed=None
    )


def name_of(lease: Lease | None) -> str | None:
    return None if lease is None else lease.segment.name


def test_a_death_counts_against_the_row_that_ran_alone_and_against_no_other() -> None:
    first = CrashHistory().after_death("killed")
    assert (first.deaths, first.is_quarantined(7, 2)) == ({}, False)
    alone = CrashHistory(first.deaths, running=7).after_death("killed again")
    assert alone == CrashHistory({7: 1}, None, "killed again")
    assert alone.is_quarantined(7, 2)
    assert not alone.is_quarantined(7, 3)
    assert not alone.is_quarantined(8, 2)


def test_with_one_try_a_row_is_still_never_quarantined_for_the_company_it_was_in() -> None:
    assert not CrashHistory().after_death("killed").is_quarantined(7, 1)
    assert CrashHistory({7: 1}).is_quarantined(7, 1)


def test_what_is_remembered_is_read_back_by_another_process(record: PoisonRecord, tmp_path: Path) -> None:
    crash_history = CrashHistory({3: 1, 5: 2}, 8, "SIGKILL", "engine")
    record.put(NAMES[1], crash_history)
    assert PoisonRecord(LocalStore(str(tmp_path))).all() == {NAMES[1]: crash_history}
    record.clear(NAMES[1])
    assert record.all() == {}
    assert record.of(NAMES[1]) is None


@pytest.mark.parametrize("text", [b"", b"[]", b'{"deaths": 3}', b'{"deaths": {"a": 1}, "running": null}'])
def test_a_record_that_cannot_be_read_is_a_poison_segment_without_quarantined_rows(
    text: bytes, record: PoisonRecord, tmp_path: Path
) -> None:
    LocalStore(str(tmp_path)).put(f"_suspects/{NAMES[0]}.json", text)
    assert record.of(NAMES[0]) == CrashHistory()


def test_a_start_forgets_what_is_committed_and_blames_no_row_for_the_end_of_the_last_driver(
    record: PoisonRecord,
) -> None:
    record.put(NAMES[0], CrashHistory({0: 1}))
    record.put(NAMES[1], CrashHistory({1: 1}, running=1))
    assert record.resume({NAMES[0]}) == {NAMES[1]: CrashHistory({1: 1})}
    assert record.all() == {NAMES[1]: CrashHistory({1: 1})}


def test_poison_segments_are_handed_out_last_and_alone() -> None:
    book = LeaseBook(SEGMENTS, poison_segments={NAMES[0]: CrashHistory()})
    assert [name_of(book.next_for("a")) for _ in range(3)] == NAMES[1:]
    assert book.next_for("a") is None
    lease = book.next_for("b")
    assert lease is not None
    assert (lease.segment.name, lease.crash_history) == (NAMES[0], CrashHistory())
    for name in NAMES[1:]:
        assert book.committed("a", name)
    assert not book.is_done
    assert book.committed("b", NAMES[0])
    assert book.is_done


def test_a_worker_with_a_poison_segment_gets_nothing_else_and_nobody_gets_a_copy_of_it() -> None:
    now_s = 0.0
    book = LeaseBook(SEGMENTS[:1], clock=lambda: now_s)
    assert name_of(book.next_for("a")) == NAMES[0]
    (lost,) = book.return_all("a")
    book.suspect(NAMES[0], CrashHistory().after_death("killed"))
    lease = book.next_for("b")
    assert lease is not None
    assert lease.segment == lost.segment
    assert lease.crash_history is not None
    now_s = 1000.0
    assert book.next_for("b") is None
    assert book.next_for("c") is None
    assert not book.is_done


def test_a_row_is_run_after_the_store_knows_it_and_not_when_it_has_had_its_tries(record: PoisonRecord) -> None:
    rows = IsolatedRows(record, FailurePolicy(tries=Tries(crash=2)))
    lease = Lease(Segment(0, 0, "m.parquet", 0, 0, 3), crash_history=CrashHistory({1: 1}, None, "SIGSEGV"))
    assert rows.admit(lease, row(0)) == row(0)
    assert record.of("0000000-00000") == CrashHistory({1: 1}, 0, "SIGSEGV")
    failure = rows.admit(lease, row(1))
    assert isinstance(failure, RowFailure)
    assert (failure.row, failure.failure_class, failure.attempts) == (1, "crash", 2)
    assert "2 workers died while running this row" in failure.message
    assert "SIGSEGV" in failure.message
    assert record.of("0000000-00000") == CrashHistory({1: 1}, 0, "SIGSEGV")
