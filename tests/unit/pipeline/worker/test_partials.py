"""When finished rows of an open segment are flushed, and which are taken over from a draft."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dimoo_core.errors import ConfigError
from manifests.files.plan import Segment
from pipeline.output.partials import PARTIALS_PREFIX, PartialSegments
from pipeline.output.results import AnswerDone, RowSuccess, StoredImage
from pipeline.protocol.messages import Lease
from pipeline.protocol.settings import PipelineSettings
from pipeline.storage.base import Store
from pipeline.storage.local import LocalStore
from pipeline.storage.retry import RetryPolicy
from pipeline.worker.partials import PartialWriter
from pipeline.worker.segment import OpenSegment

SEGMENT = Segment(0, 1, "m.parquet", 4, 4, 4)
ROWS = pa.table({"id": ["a", "b", "c", "d"], "image": [b"1", b"2", None, b"4"]})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(str(tmp_path))


def opened(*, has_partials: bool = False, rows: pa.Table = ROWS) -> OpenSegment:
    return OpenSegment(Lease(SEGMENT, has_partials=has_partials), rows)


def keeper(
    store: Store, policy: PipelineSettings, clock: Callable[[], float] = lambda: 0.0, settings: str = "s"
) -> PartialWriter:
    return PartialWriter(PartialSegments(store, RetryPolicy(threading.Event())), policy, settings, clock)


def text(row: int) -> RowSuccess:
    return RowSuccess(
        row=row,
        id="abcd"[row - 4],
        task="vqa",
        prompt="p",
        text=f"answer {row}",
        steps=2,
        cfg_scale=0.1,
        temperature=0.0,
        seed=2**63 - 1,
        preset="exact",
        num_tokens=3,
        finish_reason="stop",
        model_score=1 / 3,
        answers=(AnswerDone(answer="yes", probability=1 / 3),),
        scores=(0.1, None),
    )


def num_drafts(store: Store) -> int:
    return len(list(store.list(PARTIALS_PREFIX)))


def test_rows_are_flushed_when_there_are_enough(store: Store) -> None:
    partials, segment = keeper(store, PipelineSettings(flush_rows=2)), opened()
    partials.open(segment)
    partials.note(segment, text(4))
    assert num_drafts(store) == 0
    partials.note(segment, text(5))
    assert num_drafts(store) == 1
    partials.note(segment, text(6))
    partials.flush_all()
    partials.flush_all()
    assert num_drafts(store) == 2
    partials.close(segment)
    assert num_drafts(store) == 0


def test_rows_are_flushed_when_the_first_has_waited_for_long_enough(store: Store) -> None:
    now_s = [0.0]
    partials, segment = keeper(store, PipelineSettings(flush_s=30), lambda: now_s[0]), opened()
    partials.open(segment)
    partials.note(segment, text(4))
    now_s[0] = 29.0
    partials.note(segment, text(5))
    assert (num_drafts(store), partials.due_segments()) == (0, [])
    now_s[0] = 30.0
    assert partials.due_segments() == [segment]
    partials.flush_due(segment)
    assert (num_drafts(store), partials.due_segments()) == (1, [])
    now_s[0] = 59.0
    partials.note(segment, text(6))
    assert partials.due_segments() == []


def test_a_row_is_taken_over_as_it_was(store: Store) -> None:
    image = StoredImage(
        output="images/0/x.png",
        prompt="p",
        seed=3,
        width=1,
        height=2,
        bytes=5,
        sha256=hashlib.sha256(b"image").hexdigest(),
    )
    codes = RowSuccess(
        row=6,
        id="c",
        task="tokenize",
        prompt="",
        steps=0,
        cfg_scale=0.0,
        temperature=0.0,
        seed=0,
        preset="exact",
        num_tokens=2,
        vq_codes=np.array([1, 8191], dtype=np.uint16),
        vq_grid=[1, 2],
        outputs=(image,),
    )
    store.put(image.output, b"image")
    first, segment = keeper(store, PipelineSettings(flush_rows=2)), opened()
    first.open(segment)
    first.note(segment, text(4))
    first.note(segment, codes)

    second, again = keeper(store, PipelineSettings()), opened(has_partials=True)
    second.open(again)
    assert second.reused(again, 4) == text(4)
    found = second.reused(again, 6)
    assert found is not None
    assert (found.vq_codes.tolist(), found.vq_grid, found.outputs) == ([1, 8191], [1, 2], (image,))  # type: ignore[union-attr]
    assert second.reused(again, 5) is None
    store.put(image.output, b"imagE")
    assert second.reused(again, 6) is None
    second.close(again)
    assert num_drafts(store) == 0


def test_rows_of_other_settings_another_manifest_or_no_partial_segment_are_made(store: Store) -> None:
    first, segment = keeper(store, PipelineSettings(flush_rows=1)), opened()
    first.open(segment)
    first.note(segment, text(4))
    for settings, rows, is_there in (("s", ROWS, True), ("t", ROWS, False), ("s", ROWS.slice(1), False)):
        other, again = keeper(store, PipelineSettings(), settings=settings), opened(has_partials=True, rows=rows)
        other.open(again)
        assert (other.reused(again, 4) is not None) == is_there
    unasked, again = keeper(store, PipelineSettings()), opened()
    unasked.open(again)
    assert unasked.reused(again, 4) is None


def test_a_row_that_comes_after_its_segment_was_closed_leaves_nothing(store: Store) -> None:
    partials, segment = keeper(store, PipelineSettings(flush_rows=1)), opened()
    partials.open(segment)
    partials.close(segment)
    partials.note(segment, text(4))
    partials.flush_due(segment)
    assert num_drafts(store) == 0


def test_a_partial_segment_that_was_written_while_its_segment_was_closed_is_removed(store: Store) -> None:
    partials, segment = keeper(store, PipelineSettings(flush_rows=9)), opened()
    partials.open(segment)
    partials.note(segment, text(4))
    put = store.put

    def put_late(key: str, data: bytes, *, content_type: str | None = None) -> None:
        partials.close(segment)
        put(key, data, content_type=content_type)

    store.put = put_late  # type: ignore[method-assign]
    partials.flush(segment)
    assert num_drafts(store) == 0


def test_a_policy_that_would_never_or_always_flush_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="flush_rows must be at least 1, got 0"):
        PipelineSettings(flush_rows=0)
    with pytest.raises(ConfigError, match="flush_s must be above 0, got 0"):
        PipelineSettings(flush_s=0.0)
