"""A request's tokens, and the logits behind them, are the same bits whatever else the engine is doing."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.checkpoint.weights import load_transformer
from dimoo_core.decoding.base import StepTrace
from dimoo_core.engine.engine import Engine
from dimoo_core.model.batch_invariance import probe_invariance_policy
from dimoo_core.model.packed_batch import SequenceView, pack, read_everything
from dimoo_core.request.request import Request, Result
from dimoo_core.settings import EngineConfig, ImageSettings, TextSettings
from tests.support.engine_run import answer_of, ids_of, image_of, run_all

Steps = dict[str, list[Tensor]]
"""Logits of each step of each request."""


@pytest.fixture(scope="module", params=["float32", pytest.param("bfloat16", marks=pytest.mark.soak)])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    chosen: torch.dtype = getattr(torch, request.param)
    return chosen


@pytest.fixture(scope="module", params=["tiny", "odd"])
def model(request: pytest.FixtureRequest, dtype: torch.dtype) -> Model:
    """Plain, and with grouped queries, a padded embedding and sizes that are no powers of two."""
    loaded: Model = request.getfixturevalue(f"{request.param}_model")
    directory: Path = request.getfixturevalue(f"{request.param}_checkpoint")
    return replace(loaded, transformer=load_transformer(directory, loaded.config, device="cpu", dtype=dtype))


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def some_requests(model: Model) -> list[Request]:
    """Both tasks, several sizes, with and without guidance and temperature, one pair with equal streams."""
    small = ImageSettings(width_px=16, height_px=32, num_steps=3, cfg_scale=0.0, temperature=0.0)
    wide = ImageSettings(width_px=96, height_px=32, num_steps=5, cfg_scale=3.0)
    guided = TextSettings(max_tokens=8, block_length=4, num_steps=4, cfg_scale=1.5, temperature=0.7)
    return [
        image_of(model, "image"),
        image_of(model, "image, same prompt"),
        image_of(model, "wide", prompt="two cats near the window", settings=wide),
        image_of(model, "small", settings=small),
        answer_of(model, "answer"),
        answer_of(model, "guided answer", settings=guided),
    ]


def observed_engine(model: Model, config: EngineConfig | None = None) -> tuple[Engine, Steps]:
    steps: Steps = {}

    def keep(request_id: str, trace: StepTrace) -> None:
        steps.setdefault(request_id, []).append(trace.logits)

    return Engine(model.transformer, model.tokens, config, observe=keep), steps


def run_each_alone(model: Model) -> tuple[dict[str, Result], Steps]:
    results: dict[str, Result] = {}
    steps: Steps = {}
    for request in some_requests(model):
        engine, own = observed_engine(model)
        results |= run_all(engine, [request])
        steps |= own
    return results, steps


def assert_same(got: tuple[dict[str, Result], Steps], alone: tuple[dict[str, Result], Steps]) -> None:
    assert got[0].keys() == alone[0].keys()
    for request_id, result in alone[0].items():
        assert ids_of(got[0][request_id]) == ids_of(result), request_id
        mine, expected = got[1][request_id], alone[1][request_id]
        assert len(mine) == len(expected), request_id
        assert all(map(torch.equal, mine, expected)), f"{request_id}: logits differ in some bit"


@pytest.mark.usefixtures("_threads")
def test_a_request_does_not_depend_on_its_batch_mates_their_order_or_its_admission(model: Model) -> None:
    alone = run_each_alone(model)
    assert len({tuple(ids_of(result)) for result in alone[0].values()}) == len(alone[0])

    engine, steps = observed_engine(model)
    assert_same((run_all(engine, some_requests(model)), steps), alone)

    engine, steps = observed_engine(model)
    early: list[Result] = []
    for request in reversed(some_requests(model)):
        engine.submit(request)
        early += engine.step()
    assert_same(({result.request_id: result for result in early} | run_all(engine), steps), alone)

    tight = EngineConfig(max_step_tokens=2 * max(request.num_tokens for request in some_requests(model)))
    engine, steps = observed_engine(model, tight)
    assert_same((run_all(engine, some_requests(model)), steps), alone)


@pytest.mark.usefixtures("_threads")
def test_hidden_states_do_not_depend_on_neighbours_nor_on_what_else_is_read(model: Model, dtype: torch.dtype) -> None:
    transformer = model.transformer
    transformer.invariance_policy = probe_invariance_policy(transformer.linear_shapes(), model.device)
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(300, (length,), generator=generator) for length in (1, 7, 64, 33, 150, 2)]
    with torch.inference_mode():
        alone = [transformer(pack([read_everything(ids)], model.device)) for ids in sequences]
        together = transformer(pack([read_everything(ids) for ids in sequences], model.device))
        some = [SequenceView(ids, torch.arange(0, len(ids), 3)) for ids in sequences]
        partial = transformer(pack(some[::-1], model.device))
    for sequence, expected in zip(together.split([len(ids) for ids in sequences]), alone, strict=True):
        assert torch.equal(sequence, expected)
    ends = torch.tensor([0] + [len(view.read_R) for view in some[::-1]]).cumsum(0).tolist()
    for (start, end), view, expected in zip(pairwise(ends), some[::-1], alone[::-1], strict=True):
        assert torch.equal(partial[start:end], expected[view.read_R])


def test_tokens_do_not_depend_on_the_number_of_threads(tiny_model: Model) -> None:
    before, by_threads = torch.get_num_threads(), []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        by_threads.append(run_all(observed_engine(tiny_model)[0], some_requests(tiny_model)))
    torch.set_num_threads(before)
    one, two = by_threads
    assert {key: ids_of(result) for key, result in one.items()} == {key: ids_of(result) for key, result in two.items()}
