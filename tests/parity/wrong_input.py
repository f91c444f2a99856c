"""Kind ``errors``: where the reference ends in an exception, the product gives a result or an error with a reason."""

from collections.abc import Callable
from dataclasses import replace

import torch

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import ConfigError, RequestError
from dimoo_core.request.request import ImageResult, Request
from dimoo_core.settings import ImageSettings, StepCacheConfig, TextSettings
from tests.parity.checkpoints import Checkpoints, run_alone
from tests.parity.golden import Comparison, Golden, Mismatch
from tests.parity.layout import no_noise

_SIZE = {"width_px": 48, "height_px": 32}
_UNGUIDED = ImageSettings(**_SIZE, num_steps=4, cfg_scale=0.0)


def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Each recorded case has a check of its own; one that is not known here is skipped."""
    model = checkpoints.model(golden)
    for case in golden.meta["cases"]:
        if case["case"] not in _CASES:
            comparison.skip(f"no check of the case {case['case']!r}")
            continue
        check_case, is_error = _CASES[case["case"]]
        comparison.equal(f"{case['case']}: the reference raises", case["exception"] is not None, is_error)
        check_case(comparison, model)


def _image(model: Model, settings: ImageSettings, prompt: str = "a red boat") -> Request:
    return model.layout.text_to_image(prompt, prompt, settings, no_noise())


def _run(model: Model, request: Request) -> ImageResult:
    result = run_alone(model, request, lambda trace: None)
    assert isinstance(result, ImageResult)
    return result


def _cache_without_guidance(comparison: Comparison, model: Model) -> None:
    """Cached steps of one stream alone: the image is whole, and fewer tokens were computed."""
    cache = StepCacheConfig(reuse_ratio=0.5, refresh_interval=4, warmup_ratio=0.0)
    cached = _run(model, _image(model, replace(_UNGUIDED, step_cache=cache)))
    plain = _run(model, _image(model, _UNGUIDED))
    comparison.equal("grid with a cache and no guidance", list(cached.vq_codes.shape), [2, 3])
    comparison.true("a cache without guidance saves nothing", cached.num_tokens < plain.num_tokens)


def _refresh_at_every_step(comparison: Comparison, model: Model) -> None:
    """A cache that is never used changes nothing."""
    cache = StepCacheConfig(reuse_ratio=0.5, refresh_interval=1, warmup_ratio=0.0)
    cached = _run(model, _image(model, replace(_UNGUIDED, step_cache=cache)))
    comparison.equal("codes", cached.vq_codes, _run(model, _image(model, _UNGUIDED)).vq_codes)


def _two_prompts(comparison: Comparison, model: Model) -> None:
    """Two prompts in one batch, each with the result that it has alone."""
    requests = [_image(model, _UNGUIDED, prompt) for prompt in ("a red boat", "the cat")]
    engine = Engine(model.transformer, model.tokens)
    for request in requests:
        engine.submit(request)
    results = []
    while engine.num_unfinished:
        results += engine.step()
    for request in requests:
        (together,) = (result for result in results if result.request_id == request.request_id)
        assert isinstance(together, ImageResult)
        comparison.equal(f"codes of {request.request_id}", together.vq_codes, _run(model, request).vq_codes)


def _wrong_length(comparison: Comparison, model: Model) -> None:
    codes_HW = torch.full((1, 5), -1)
    _refused(
        comparison,
        RequestError,
        "(1, 5)",
        lambda: model.layout.text_to_image("row", "x", _UNGUIDED, no_noise(), known_codes=codes_HW),
    )


def _uneven_blocks(comparison: Comparison, model: Model) -> None:
    _refused(comparison, ConfigError, "block_length", lambda: TextSettings(max_tokens=10, block_length=4))


def _uneven_steps(comparison: Comparison, model: Model) -> None:
    _refused(comparison, ConfigError, "steps", lambda: TextSettings(max_tokens=8, block_length=4, num_steps=3))


def _refused(comparison: Comparison, kind: type[Exception], word: str, attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except kind as error:
        comparison.true(f"the error does not name {word}: {error}", word in str(error))
        return
    raise Mismatch(f"no {kind.__name__} about {word}")


_CASES: dict[str, tuple[Callable[[Comparison, Model], None], bool]] = {
    "t2i use_cache=True with cfg_scale=0, some non-refresh step follows": (_cache_without_guidance, True),
    "t2i use_cache=True with cfg_scale=0, every step a refresh step": (_refresh_at_every_step, False),
    "t2i batch of 2 prompts": (_two_prompts, True),
    "t2i wrong seq_len": (_wrong_length, True),
    "text gen_length not a multiple of block_length": (_uneven_blocks, True),
    "text steps not a multiple of the number of blocks": (_uneven_steps, True),
}
"""Check of each case, and whether the reference raises there."""
