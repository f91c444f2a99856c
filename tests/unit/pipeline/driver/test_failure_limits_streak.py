"""Rows in succession on which the engine fails, around a model that computes nothing and workers that only pretend."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.errors import CodecNotFinite, LogitsNotFinite
from dimoo_core.request.request import RequestFailed, Result
from pipeline.driver.coordinator import Coordinator, CoordinatorReport
from pipeline.driver.failure_limits import StreakWatch
from pipeline.driver.leases import LeaseBook
from pipeline.driver.local_pool import LocalPool
from pipeline.errors import RunFailed, TooManyFailures, WorkerUnfit
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import (
    Event,
    Lease,
    SegmentCommitted,
    SegmentHeldBack,
    Streak,
    WorkerFailed,
    WorkerProgress,
)
from pipeline.protocol.settings import FailurePolicy, PipelineSettings
from pipeline.worker.commit import MAX_UNFIT_WORKERS
from tests.support.in_process import command
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.pretending_pool import PretendingPool, commit, segments
from tests.support.run_output import RunOutput
from tests.support.stub_model import StubEngine, StubModel, use_stub_model
from tests.support.worker_run import book_of, settings_of

WORDS = "logits of step 1 are not finite in float16: set dtype=bfloat16 or dtype=float32"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> StubModel:
    return use_stub_model(monkeypatch)


@pytest.fixture
def fail_on(monkeypatch: pytest.MonkeyPatch, model: StubModel) -> Callable[[Callable[[int], bool]], None]:
    """Have engines fail on the rows of these numbers from now on; each step ends one row, in order."""

    def use(is_bad: Callable[[int], bool]) -> None:
        class Failing(StubEngine):
            def step(self) -> list[Result]:
                rest, self.waiting = self.waiting[1:], self.waiting[:1]
                if is_bad(int(self.waiting[0].request_id)):
                    request_id = self.waiting[0].request_id
                    self.waiting = rest
                    return [RequestFailed(request_id=request_id, error=LogitsNotFinite(WORDS))]
                results = super().step()
                self.waiting = rest
                return results

        monkeypatch.setattr("pipeline.worker.worker.Engine", Failing)

    return use


def run_rows(folder: Path, num_rows: int, *, max_streak: int | None, segment_rows: int = 1) -> CoordinatorReport:
    """One worker of this process, whose threads keep the order of rows."""
    one_each = PipelineSettings(fetch_threads=1, store_threads=1)
    settings = settings_of(folder, failures=FailurePolicy(max_engine_streak=max_streak), pipeline=one_each)
    watch = StreakWatch(max_streak)
    book = book_of(folder, num_rows, segment_rows)
    return Coordinator(LocalPool(settings), book, lambda name, event: None, streaks=watch).run()


def outcome_of(folder: Path) -> tuple[int, int]:
    output = RunOutput(folder / "out")
    return len(output.rows()), len(output.failures())


@pytest.mark.parametrize("segment_rows", [1, 3, 64])
def test_a_run_whose_first_rows_all_fail_alike_stops_and_commits_none_of_them(
    segment_rows: int, fail_on: Any, tmp_path: Path
) -> None:
    fail_on(lambda row: True)
    with pytest.raises(
        TooManyFailures, match=rf"the first \d+ rows .* failed alike: {WORDS}; none of .* \(failures.max"
    ):
        run_rows(tmp_path, 25, max_streak=5, segment_rows=segment_rows)
    assert list((tmp_path / "out").glob("parts/*")) == []


def test_fewer_rows_than_that_are_failures_and_the_run_ends(fail_on: Any, tmp_path: Path) -> None:
    fail_on(lambda row: True)
    assert run_rows(tmp_path, 4, max_streak=5).totals == RunTotals(0, 4)
    assert outcome_of(tmp_path) == (0, 4)


def test_rows_that_fail_between_others_are_failures_however_many(fail_on: Any, tmp_path: Path) -> None:
    fail_on(lambda row: row % 5 != 0)
    assert run_rows(tmp_path, 25, max_streak=5).totals == RunTotals(5, 20)
    assert outcome_of(tmp_path) == (5, 20)


def test_without_a_limit_every_row_may_fail(fail_on: Any, tmp_path: Path) -> None:
    fail_on(lambda row: True)
    assert run_rows(tmp_path, 20, max_streak=None).totals == RunTotals(0, 20)


def test_a_worker_that_turns_bad_and_is_the_only_one_ends_the_run_without_those_rows(
    fail_on: Any, tmp_path: Path
) -> None:
    fail_on(lambda row: row == 3 or row >= 10)
    told = r"5 consecutive rows.*no other worker.*1 earlier rows are committed.*retry --class engine"
    with pytest.raises(TooManyFailures, match=told):
        run_rows(tmp_path, 25, max_streak=5)
    assert outcome_of(tmp_path) == (9, 1)
    fail_on(lambda row: False)
    book = book_of(tmp_path, 25, 1)
    committed = {path.stem for path in (tmp_path / "out" / "parts").iterdir()}
    rest = LeaseBook((lease.segment for lease in iter(lambda: book.next_for("any"), None)), committed)
    Coordinator(LocalPool(settings_of(tmp_path)), rest, lambda name, event: None).run()
    assert outcome_of(tmp_path) == (24, 1)
    assert sorted(RunOutput(tmp_path / "out").by_id()) == sorted(f"row{row}" for row in range(25) if row != 3)


def test_the_command_stops_with_its_own_status_and_resumes(fail_on: Any, tmp_path: Path) -> None:
    rows = [image_row(f"row{number}", width=33 if number == 2 else 32) for number in range(40)]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    options = ("--model", "stub", "--workers", 0, "--output", tmp_path / "out", "--set", "pipeline.segment_rows=2")
    fail_on(lambda row: True)
    stopped = command(manifest, *options, "--set", "failures.max_engine_streak=6")
    assert stopped.exit_code == 4
    assert WORDS in stopped.stderr
    assert "Re-run the same command to resume" in stopped.stderr
    fail_on(lambda row: False)
    assert command(manifest, *options).exit_code == 3
    output = RunOutput(tmp_path / "out")
    output.check_complete([f"row{number}" for number in range(40)])
    assert list(output.failed_by_id()) == ["row2"]


def test_an_image_that_the_codec_makes_no_numbers_of_fails_alone(
    model: StubModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    decode = model.decode

    def decode_some(codes: list[Any]) -> list[Any]:
        wrong = CodecNotFinite("an image's pixels are not finite in float32")
        return [
            wrong if int(each.flatten()[0]) == 1 else image for each, image in zip(codes, decode(codes), strict=True)
        ]

    monkeypatch.setattr(model, "try_decode", decode_some)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row(f"row{number}") for number in range(4)])
    options = ("--model", "stub", "--workers", 0, "--output", tmp_path / "out")
    assert command(manifest, *options).exit_code == 3
    (failure,) = RunOutput(tmp_path / "out").failures()
    assert (failure["id"], failure["stage"], failure["failure_class"]) == ("row1", "generate", "engine")
    assert len(list((tmp_path / "out").glob("images/*/*.png"))) == 3


class Retiring(PretendingPool):
    """Workers that can be replaced; those that are told to settle commit what they hold back."""

    can_replace = True

    def __init__(self, num_workers: int, answer: Callable[[str, Lease], Event | None]) -> None:
        super().__init__(num_workers, answer)
        self.discarded: list[str] = []

    def discard(self, name: str) -> None:
        self.discarded.append(name)
        del self._leases[name]

    def replace(self, name: str) -> str:
        successor = super().replace(name)
        self.discarded.append(f"{name} for {successor}")
        return successor


def progress(num_done: int, failing: Streak | None = None) -> WorkerProgress:
    return WorkerProgress(
        num_done=num_done, num_failed=0, num_steps=0, num_tokens=0, engine_busy_s=0, engine_span_s=0, failing=failing
    )


class Bad:
    """What workers of some names do: hold segments back, and end at the third; the others commit."""

    def __init__(self, *names: str) -> None:
        self._held: dict[str, list[str]] = {name: [] for name in names}
        self.seen: list[Lease] = []

    def __call__(self, name: str, lease: Lease) -> Event | None:
        if name not in self._held:
            return commit(name, lease)
        held = self._held[name]
        held.append(lease.segment.name)
        self.seen.append(lease)
        if len(held) == 3:
            return WorkerFailed(WorkerUnfit("the engine failed on 3 consecutive rows", tuple(held)))
        return SegmentHeldBack(lease.segment.name)


def test_a_bad_worker_is_retired_for_good_and_others_run_its_rows() -> None:
    heard: list[tuple[str, Event]] = []
    pool = Retiring(2, Bad("worker-0"))
    book = LeaseBook(segments(20))
    report = Coordinator(pool, book, lambda *told: heard.append(told), streaks=StreakWatch(3)).run()
    assert report == CoordinatorReport(RunTotals(20, 0), 1)
    assert pool.discarded == ["worker-0"]
    bad = [segment for name, segment in pool.given if name == "worker-0"]
    good = [segment for name, segment in pool.given if name == "worker-1"]
    assert len(bad) <= 5
    assert sorted(good) == [segment.name for segment in segments(20)]
    assert not [event for name, event in heard if name == "worker-0" and isinstance(event, SegmentCommitted)]


def test_what_two_workers_were_retired_for_is_the_rows_own_fault() -> None:
    bad, taken = Bad("worker-0", "worker-1"), list[Lease]()

    def answer(name: str, lease: Lease) -> Event | None:
        if name == "worker-2":
            taken.append(lease)
        return bad(name, lease)

    pool = Retiring(3, answer)
    assert (
        Coordinator(pool, LeaseBook(segments(12)), lambda *told: None, streaks=StreakWatch(3)).run().totals.num_done
        == 12
    )
    counts = {lease.segment.name: lease.num_unfit for lease in taken}
    assert set(counts.values()) <= {0, 1, MAX_UNFIT_WORKERS}
    assert sum(counts.values()) == 2 * 3  # three segments of each, and of none that it held besides


def test_a_segment_that_two_workers_were_retired_for_is_committed_with_its_failures(
    fail_on: Any, tmp_path: Path
) -> None:
    fail_on(lambda row: True)
    book = book_of(tmp_path, 12, 1)
    for name in ("first", "second"):
        leases = list(iter(lambda name=name: book.next_for(name), None))
        book.return_all(name, is_lost=False, failing=[lease.segment.name for lease in leases])
    settings = settings_of(tmp_path, failures=FailurePolicy(max_engine_streak=5))
    report = Coordinator(LocalPool(settings), book, lambda *told: None, streaks=StreakWatch(5)).run()
    assert report.totals == RunTotals(0, 12)


def test_the_last_worker_that_is_left_ends_the_run() -> None:
    pool = Retiring(2, Bad("worker-0", "worker-1"))
    with pytest.raises(TooManyFailures, match="3 consecutive rows, no other worker is left"):
        Coordinator(pool, LeaseBook(segments(20)), lambda *told: None, streaks=StreakWatch(3)).run()
    assert pool.is_stopped


def test_a_worker_without_more_rows_is_told_to_commit_what_it_holds_back() -> None:
    class Settling(Retiring):
        def commit_held(self, name: str) -> None:
            super().commit_held(name)
            held = [event.segment_name for told, event in heard if told == name and isinstance(event, SegmentHeldBack)]
            self._events += [(name, SegmentCommitted(each, RunTotals(0, 1), (("engine", 1),))) for each in held]

    heard: list[tuple[str, Event]] = []
    pool = Settling(1, lambda name, lease: SegmentHeldBack(lease.segment.name))
    report = Coordinator(pool, LeaseBook(segments(6)), lambda *told: heard.append(told), streaks=StreakWatch(9)).run()
    assert report == CoordinatorReport(RunTotals(0, 6), 0)
    assert pool.settled == ["worker-0"]
    assert pool.most_held == 2


def failing(num_rows: int, cause: str = "LogitsNotFinite") -> WorkerProgress:
    return progress(0, Streak(num_rows, cause, WORDS))


def test_rows_of_several_workers_that_all_fail_alike_are_counted_together() -> None:
    watch = StreakWatch(6)
    watch.take("a", failing(3))
    watch.take("b", failing(2))
    watch.check(2)
    watch.take("b", failing(3))
    with pytest.raises(TooManyFailures, match="first 6 rows"):
        watch.check(2)
    watch.take("b", failing(3, "CodecNotFinite"))
    watch.check(2)
    watch.take("b", progress(1, Streak(3, "LogitsNotFinite", WORDS)))
    watch.check(2)


def test_one_bad_worker_that_is_faster_than_all_others_does_not_end_the_run() -> None:
    watch = StreakWatch(6)
    watch.take("a", failing(6))
    watch.check(2)
    watch.retire("a")
    watch.forget("a")
    watch.check(1)
    watch.take("b", failing(2))
    watch.check(1)
    watch.take("b", failing(3))
    with pytest.raises(TooManyFailures, match="first 9 rows"):
        watch.check(1)


def test_a_place_where_engine_after_engine_fails_stays_empty() -> None:
    def answer(name: str, lease: Lease) -> Event | None:
        return commit(name, lease) if name == "worker-1" else WorkerFailed(RunFailed("CUDA error"), ("row0",))

    pool = Retiring(2, answer)
    report = Coordinator(pool, LeaseBook(segments(20)), lambda *told: None, streaks=StreakWatch(4)).run()
    assert report == CoordinatorReport(RunTotals(20, 0), 4)
    assert [each for each in pool.discarded if each == "worker-0" or " for " in each] == [
        "worker-0",
        "worker-0 for worker-2",
        "worker-2 for worker-3",
        "worker-3 for worker-4",
    ]
