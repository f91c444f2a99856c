"""The step cache as part of a request; what it computes is checked against the reference in tests/parity."""

import pytest
import torch

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.engine.kv_cache import positions_to_compute, refresh_steps
from dimoo_core.errors import ConfigError
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import ImageResult, Request
from dimoo_core.settings import ImageSettings, StepCacheConfig


def request_of(model: Model, name: str, step_cache: StepCacheConfig | None, *, side_px: int = 96) -> Request:
    settings = ImageSettings(width_px=side_px, height_px=96, num_steps=12, cfg_scale=3.0, step_cache=step_cache)
    return model.layout.text_to_image(name, f"a boat called {name}", settings, SeededNoise(7, model.device))


def run(model: Model, requests: list[Request]) -> tuple[dict[str, ImageResult], Engine]:
    engine = Engine(model.transformer, model.tokens)
    for request in requests:
        engine.submit(request)
    results: dict[str, ImageResult] = {}
    while engine.num_unfinished:
        for result in engine.step():
            assert isinstance(result, ImageResult)
            results[result.request_id] = result
    return results, engine


def test_warm_up_steps_are_counted_inclusively() -> None:
    assert sorted(refresh_steps(12, StepCacheConfig())) == [0, 1, 2, 3, 8]


def test_equal_scores_at_the_threshold_are_all_computed() -> None:
    assert positions_to_compute(torch.tensor([3.0, 1.0, 1.0, 2.0]), 0.75).tolist() == [1, 2]


def test_a_cache_that_is_never_warm_changes_nothing(tiny_model: Model) -> None:
    cached, _ = run(tiny_model, [request_of(tiny_model, "a", StepCacheConfig(warmup_ratio=1.0))])
    plain, _ = run(tiny_model, [request_of(tiny_model, "a", None)])
    assert torch.equal(cached["a"].vq_codes, plain["a"].vq_codes)


def test_a_cached_request_does_not_depend_on_its_batch_mates(tiny_model: Model) -> None:
    names = {"cached": StepCacheConfig(), "other": StepCacheConfig(reuse_ratio=0.5, warmup_ratio=0.1), "plain": None}
    requests = [
        request_of(tiny_model, name, config, side_px=64 + 16 * index)
        for index, (name, config) in enumerate(names.items())
    ]
    together, _ = run(tiny_model, requests)
    backwards, _ = run(tiny_model, requests[::-1])
    for request in requests:
        alone, _ = run(tiny_model, [request])
        name = request.request_id
        assert torch.equal(alone[name].vq_codes, together[name].vq_codes)
        assert torch.equal(alone[name].vq_codes, backwards[name].vq_codes)


def test_partial_steps_compute_the_named_share_of_positions(tiny_model: Model) -> None:
    plain, _ = run(tiny_model, [request_of(tiny_model, "a", None)])
    cached, _ = run(tiny_model, [request_of(tiny_model, "a", StepCacheConfig(reuse_ratio=0.9))])
    share = cached["a"].num_tokens / plain["a"].num_tokens
    num_refreshes = 5
    assert num_refreshes / 12 < share < (num_refreshes + 7 * 0.13) / 12


@pytest.mark.parametrize(
    "values", [{"reuse_ratio": 0.0}, {"reuse_ratio": 1.0}, {"refresh_interval": 0}, {"warmup_ratio": 1.5}]
)
def test_settings_of_the_cache_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    name = next(iter(values))
    with pytest.raises(ConfigError, match=rf"^{name} must be .*, got"):
        StepCacheConfig(**values)
