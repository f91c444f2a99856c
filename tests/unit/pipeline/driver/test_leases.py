from collections import Counter
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manifests.files.plan import ManifestFile, Segment, plan_shards
from pipeline.driver.leases import SPECULATE_AFTER_S, LeaseBook

WORKERS = ("a", "b", "c")


class Clock:
    """Every look at it takes a minute, so that whatever is held may be copied."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 60.0
        return self.now_s


def segments(number: int, rows_each: int = 2) -> list[Segment]:
    file = ManifestFile("m.parquet", 1, number * rows_each, "digest")
    return list(plan_shards([file], shard_rows=3 * rows_each, segment_rows=rows_each))


def test_segments_are_handed_out_in_row_order_without_those_that_are_done() -> None:
    plan = segments(4)
    book = LeaseBook(plan, committed={plan[1].name})
    leased = [book.next_for("a") for _ in range(4)]
    assert [lease.segment if lease else None for lease in leased] == [plan[0], plan[2], plan[3], None]


def test_the_book_is_done_when_everything_is_committed_and_not_before() -> None:
    book = LeaseBook(segments(1))
    assert not book.is_done
    lease = book.next_for("a")
    assert lease is not None
    assert book.next_for("b") is None
    assert not book.is_done
    assert book.committed("a", lease.segment.name)
    assert book.is_done


def test_a_book_without_segments_is_done_once_it_was_asked() -> None:
    book = LeaseBook([])
    assert book.next_for("a") is None
    assert book.is_done


def test_what_a_dead_worker_held_is_handed_out_next() -> None:
    plan = segments(4)
    book = LeaseBook(plan)
    held = [book.next_for("a"), book.next_for("a")]
    book.next_for("b")
    assert book.return_all("a") == held
    assert book.num_held("a") == 0
    assert [book.next_for("b"), book.next_for("b")] == held


def test_losses_are_counted_until_the_commit() -> None:
    book = LeaseBook(segments(2))
    for losses in (1, 2):
        first, second = book.next_for("a"), book.next_for("a")
        assert first is not None
        assert second is not None
        book.return_all("a")
        assert book.num_losses(first.segment.name) == book.num_losses(second.segment.name) == losses
    book.next_for("b")
    book.committed("b", first.segment.name)
    assert book.num_losses(first.segment.name) == 0


def test_a_worker_without_work_gets_a_copy_of_what_is_queued_elsewhere_then_of_what_is_held_longest() -> None:
    book = LeaseBook(segments(3), clock=Clock())
    first, queued = book.next_for("a"), book.next_for("a")
    third = book.next_for("b")
    assert book.next_for("b") is None  # it has work
    copies = [book.next_for(name) for name in ("c", "d", "e", "f")]
    assert copies == [queued, first, third, None]  # one copy of each


def test_a_segment_is_copied_only_after_it_was_held_for_a_while() -> None:
    now_s = [0.0]
    book = LeaseBook(segments(1), clock=lambda: now_s[0])
    lease = book.next_for("a")
    now_s[0] = SPECULATE_AFTER_S - 1
    assert book.next_for("b") is None
    now_s[0] = SPECULATE_AFTER_S
    assert book.next_for("b") == lease


def test_a_copied_segment_counts_once_and_whoever_is_late_is_known() -> None:
    book = LeaseBook(segments(1), clock=Clock())
    lease = book.next_for("a")
    assert lease is not None
    assert book.next_for("b") == lease
    assert book.committed("b", lease.segment.name)
    assert book.is_done
    assert [book.num_held(name) for name in "ab"] == [0, 0]
    assert [book.is_overtaken(name) for name in "ab"] == [True, False]
    assert not book.committed("a", lease.segment.name)
    assert not book.is_overtaken("a")


def test_a_copied_segment_is_handed_out_again_when_all_who_held_it_are_dead() -> None:
    book = LeaseBook(segments(1), clock=Clock())
    lease = book.next_for("a")
    book.next_for("b")
    assert book.return_all("a") == [lease]
    assert book.next_for("c") == lease  # a new copy of what "b" holds
    book.return_all("b")
    assert not book.is_done
    book.return_all("c")
    assert book.next_for("d") == lease


def test_a_worker_that_is_busy_with_what_another_has_committed_gets_no_copy() -> None:
    book = LeaseBook(segments(2), clock=Clock())
    lease = book.next_for("a")
    book.next_for("b")
    assert lease is not None
    assert book.next_for("c") == lease
    book.committed("c", lease.segment.name)
    assert book.next_for("a") is None
    book.committed("a", lease.segment.name)
    assert book.next_for("a") is not None


def test_a_lease_names_the_rows_of_its_segment_that_repeat_an_id() -> None:
    book = LeaseBook(segments(3), repeats={1: 0, 4: 1, 5: 0})
    leases = [book.next_for("a") for _ in range(3)]
    assert [dict(lease.repeats) if lease else None for lease in leases] == [{1: 0}, {}, {4: 1, 5: 0}]


def test_segments_are_read_only_as_needed() -> None:
    taken: list[str] = []

    def endless() -> Iterator[Segment]:
        for segment in segments(1000):
            taken.append(segment.name)
            yield segment

    book = LeaseBook(endless())
    book.next_for("a")
    book.next_for("a")
    assert len(taken) == 2


class AnyInterleaving(RuleBasedStateMachine):
    """Workers take, commit and die in any order."""

    @initialize(number=st.integers(0, 8), done=st.sets(st.integers(0, 7)))
    def start(self, number: int, done: set[int]) -> None:
        plan = segments(number)
        self.names = {segment.name for segment in plan}
        self.committed = {plan[index].name for index in done if index < number}
        self.book = LeaseBook(plan, set(self.committed), clock=Clock())
        self.held: dict[str, set[str]] = {worker: set() for worker in WORKERS}
        self.overtaken: dict[str, set[str]] = {worker: set() for worker in WORKERS}

    @rule(worker=st.sampled_from(WORKERS))
    def take(self, worker: str) -> None:
        lease = self.book.next_for(worker)
        handed_out = set().union(*self.held.values())
        if lease is None:
            assert handed_out | self.committed == self.names
            return
        name = lease.segment.name
        assert name not in self.committed
        if name in handed_out:  # a copy: nothing else is left, this worker has nothing, and one other holds it
            assert handed_out | self.committed == self.names
            assert not self.held[worker]
            assert not self.overtaken[worker]
            assert sum(name in held for held in self.held.values()) == 1
        self.held[worker].add(name)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([worker for worker in WORKERS if self.held[worker]]))
        name = data.draw(st.sampled_from(sorted(self.held[worker])))
        assert self.book.committed(worker, name)
        for other in WORKERS:
            if name in self.held[other]:
                self.held[other].remove(name)
                if other != worker:
                    self.overtaken[other].add(name)
        self.committed.add(name)

    @precondition(lambda self: any(self.overtaken.values()))
    @rule(data=st.data())
    def commit_too_late(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([worker for worker in WORKERS if self.overtaken[worker]]))
        name = data.draw(st.sampled_from(sorted(self.overtaken[worker])))
        assert not self.book.committed(worker, name)
        self.overtaken[worker].remove(name)

    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        assert {lease.segment.name for lease in self.book.return_all(worker)} == self.held[worker]
        self.held[worker].clear()
        self.overtaken[worker].clear()

    @invariant()
    def knows_who_holds_what(self) -> None:
        assert [self.book.is_overtaken(worker) for worker in WORKERS] == [bool(self.overtaken[w]) for w in WORKERS]
        assert [self.book.num_held(worker) for worker in WORKERS] == [len(self.held[worker]) for worker in WORKERS]
        assert not self.book.is_done or self.committed == self.names

    def teardown(self) -> None:
        """Whatever happened: one worker that lives gets everything that is left."""
        for worker in WORKERS:
            self.book.return_all(worker)
        while lease := self.book.next_for("survivor"):
            self.committed.add(lease.segment.name)
            self.book.committed("survivor", lease.segment.name)
        assert self.committed == self.names
        assert self.book.is_done


TestAnyInterleaving = AnyInterleaving.TestCase


@given(st.lists(st.sampled_from(["take", "die"]), max_size=40))
def test_without_commits_every_segment_stays_available(actions: list[str]) -> None:
    book = LeaseBook(segments(5), clock=Clock())
    for action in actions:
        if action == "take":
            book.next_for("a")
        else:
            book.return_all("a")
    book.return_all("a")
    leases = []
    while lease := book.next_for("b"):
        leases.append(lease.segment.name)
    assert Counter(leases) == Counter(segment.name for segment in segments(5))
