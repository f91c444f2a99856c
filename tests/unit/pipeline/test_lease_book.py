from collections import Counter
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manifests.shard import ManifestFile, Segment, plan_shards
from pipeline.lease import LeaseBook

WORKERS = ("a", "b", "c")


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
    book.committed("a", lease.segment.name)
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
        self.book = LeaseBook(plan, set(self.committed))
        self.held: dict[str, set[str]] = {worker: set() for worker in WORKERS}

    @rule(worker=st.sampled_from(WORKERS))
    def take(self, worker: str) -> None:
        lease = self.book.next_for(worker)
        handed_out = set().union(*self.held.values())
        if lease is None:
            assert handed_out | self.committed == self.names
            return
        assert lease.segment.name not in handed_out | self.committed
        self.held[worker].add(lease.segment.name)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([worker for worker in WORKERS if self.held[worker]]))
        name = data.draw(st.sampled_from(sorted(self.held[worker])))
        self.book.committed(worker, name)
        self.held[worker].remove(name)
        self.committed.add(name)

    @rule(worker=st.sampled_from(WORKERS))
    def die(self, worker: str) -> None:
        assert {lease.segment.name for lease in self.book.return_all(worker)} == self.held[worker]
        self.held[worker].clear()

    @invariant()
    def knows_who_holds_what(self) -> None:
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
    book = LeaseBook(segments(5))
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
