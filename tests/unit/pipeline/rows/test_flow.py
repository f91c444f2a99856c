"""A row between its requests and its result."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dimoo_core.errors import RequestError
from dimoo_core.request.request import ImageResult, Request, RequestFailed, TextResult
from dimoo_core.settings import TextSettings
from manifests.row.parse import Row
from pipeline.rows.flow import MadeImages, Rounds, RowFlow, samples
from pipeline.rows.flow import answer as one_answer

ROW = Row(index=3, id="id3", task="vqa", prompt="?", image=None, settings=TextSettings(), seed=None)


def request(name: str) -> Request:
    stub: Any = SimpleNamespace(request_id=name)
    return stub  # type: ignore[no-any-return]


def answer(name: str, *token_ids: int) -> TextResult:
    return TextResult(
        request_id=name, token_ids=token_ids, finish_reason="stop", num_steps=1, num_tokens=1, engine_s=0.0
    )


def answered(flow: RowFlow) -> tuple[int, ...] | None:
    return flow.result.token_ids if isinstance(flow.result, TextResult) else None


def two_rounds(seen: list[tuple[str, ...]]) -> Rounds:
    """Two answers, then one more; the last is the row's."""
    seen.append(tuple(result.request_id for result in (yield (request("3.0"), request("3.1")))))
    (last,) = yield (request("3.2"),)
    assert isinstance(last, TextResult)
    return last


def test_a_row_of_one_request_is_over_with_its_result() -> None:
    flow = RowFlow(ROW, one_answer(request("3")))
    assert [each.request_id for each in flow.first_requests] == ["3"]
    assert not flow.is_over
    assert flow.take(answer("3", 7)) == ()
    assert flow.is_over
    assert answered(flow) == (7,)


def test_an_image_is_made_of_the_codes_of_its_result() -> None:
    flow, codes = RowFlow(ROW, samples(ROW, 7, lambda name, seed: request(name))), torch.tensor([[1, 2]])
    flow.take(ImageResult(request_id="3", vq_codes=codes, num_steps=1, num_tokens=1, engine_s=0.0))
    assert isinstance(flow.result, MadeImages)
    (made,) = flow.result.images
    assert (made.vq_codes is codes, made.seed, made.prompt) == (True, 7, "?")


def test_a_round_waits_for_all_of_its_results_and_gets_them_in_the_order_of_its_requests() -> None:
    seen: list[tuple[str, ...]] = []
    flow = RowFlow(ROW, two_rounds(seen))
    assert flow.take(answer("3.1")) == ()
    assert seen == []
    assert [each.request_id for each in flow.take(answer("3.0"))] == ["3.2"]
    assert seen == [("3.0", "3.1")]
    assert not flow.is_over
    flow.take(answer("3.2", 5))
    assert answered(flow) == (5,)


def test_a_request_that_fails_ends_the_row_and_what_comes_after_it_does_not_count() -> None:
    flow, error = RowFlow(ROW, two_rounds([])), RequestError("too large")
    assert flow.take(RequestFailed(request_id="3.0", error=error)) == ()
    assert flow.is_over
    assert flow.take(answer("3.1")) == ()
    assert (flow.error, flow.result) == (error, None)


def test_a_row_that_asks_nothing_of_the_engine_is_over_at_once() -> None:
    def nothing() -> Rounds:
        return answer("3", 9)
        yield ()

    flow = RowFlow(ROW, nothing())
    assert flow.first_requests == ()
    assert answered(flow) == (9,)


def test_a_first_round_that_cannot_be_laid_out_is_told_to_whoever_prepares_the_row() -> None:
    def wrong() -> Rounds:
        raise RequestError("the prompt must not contain '<IMAGE>'")
        yield ()

    with pytest.raises(RequestError, match="must not contain"):
        RowFlow(ROW, wrong())
