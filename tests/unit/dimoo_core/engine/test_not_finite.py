"""Numbers that are not finite end the request that has them, name the step, and touch no other."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.codec.codec import ImageCodec
from dimoo_core.decoding.base import StepTrace
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import CodecNotFinite, LogitsNotFinite
from dimoo_core.presets import PRESETS
from dimoo_core.request.request import ChoiceResult, Request, RequestFailed, Result
from dimoo_core.settings import (
    ChoiceSettings,
    ImageSettings,
    ParallelCommit,
    TargetCacheConfig,
    TextCacheConfig,
    TextSettings,
)
from tests.support.engine_run import answer_of, ids_of, image_of, noise_of, run_all
from tests.unit.dimoo_core.codec.test_codec import random_image

IMAGE = ImageSettings(width_px=64, height_px=64, num_steps=6)
TEXT = TextSettings(max_tokens=12, block_length=6, num_steps=6)

SETTINGS: dict[str, ImageSettings | TextSettings | ChoiceSettings] = {
    "image": IMAGE,
    "image without guidance at temperature 0": replace(IMAGE, cfg_scale=0.0, temperature=0.0),
    "image, the reference's cache": PRESETS["reference-cache"].image(IMAGE),
    "image, target cache": replace(IMAGE, step_cache=TargetCacheConfig()),
    "image, balanced": PRESETS["balanced"].image(IMAGE),
    "image, fast": PRESETS["fast"].image(IMAGE),
    "image, entropy": replace(IMAGE, commit=ParallelCommit(rule="entropy", bound=1.0)),
    "answer": TEXT,
    "answer with guidance": replace(TEXT, cfg_scale=1.0),
    "answer at temperature 1": replace(TEXT, temperature=1.0),
    "answer, random order": replace(TEXT, remasking="random"),
    "answer, cached": replace(TEXT, cache=TextCacheConfig(mode="prefix")),
    "answer, balanced": PRESETS["balanced"].text(TEXT),
    "answer, entropy": replace(TEXT, commit=ParallelCommit(rule="entropy", bound=1.0)),
    "answer of one token": TextSettings(max_tokens=1, block_length=1, num_steps=1),
    "choices": ChoiceSettings(),
    "choices with guidance": ChoiceSettings(cfg_scale=1.0),
}


Change = Callable[[int, Tensor], Tensor]
"""What is done to the logits of a pass, by its number."""


def request_of(
    model: Model, name: str, settings: ImageSettings | TextSettings | ChoiceSettings, prompt: str = "a red boat"
) -> Request:
    if isinstance(settings, ImageSettings):
        return image_of(model, name, prompt=prompt, settings=settings)
    if isinstance(settings, TextSettings):
        return answer_of(model, name, prompt=prompt, settings=settings)
    codes_HW = torch.zeros(2, 3, dtype=torch.int64)
    return model.layout.choices(name, prompt, [codes_HW], ("yes", "not at all"), settings, noise_of(name))


def of(result: Result) -> object:
    return result.probabilities if isinstance(result, ChoiceResult) else ids_of(result)


def error_of(result: Result) -> str:
    assert isinstance(result, RequestFailed), result
    assert isinstance(result.error, LogitsNotFinite)
    return str(result.error)


@pytest.fixture
def change_logits(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Have something done to all logits of a step from now on, which is given the number of the pass and them."""
    head = tiny_model.transformer.logits

    def use(change: Change) -> None:
        count = iter(range(1000))
        changed = lambda hidden, columns: change(next(count), head(hidden, columns))  # noqa: E731
        monkeypatch.setattr(tiny_model.transformer, "logits", changed)

    return use


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_request_whose_numbers_are_wrong_fails_and_those_beside_it_are_as_without_it(
    kind: str, tiny_model: Model
) -> None:
    settings = SETTINGS[kind]
    others = [request_of(tiny_model, name, settings, "the old house") for name in ("one", "two")]
    others += [image_of(tiny_model, "three"), answer_of(tiny_model, "four")]
    alone = {name: of(result) for name, result in run_all(new_engine(tiny_model), others).items()}
    wrong = request_of(tiny_model, "wrong", settings, "a red bicycle")
    used = {int(each) for request in others for sequence in request.sequences for each in sequence.prefix}
    only = [int(each) for each in wrong.sequences[0].prefix if int(each) not in used]
    embedding = tiny_model.transformer.embedding
    kept = embedding.clone()
    try:
        embedding[only] = torch.nan
        results = run_all(new_engine(tiny_model), [others[0], wrong, *others[1:]])
    finally:
        embedding.copy_(kept)
    told = error_of(results.pop("wrong"))
    assert told.startswith("logits of step 1 are not finite in float32: ")
    assert {name: of(result) for name, result in results.items()} == alone


def new_engine(model: Model, observe: Callable[[str, StepTrace], None] | None = None) -> Engine:
    return Engine(model.transformer, model.tokens, observe=observe)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if "one token" not in kind and "choices" not in kind])
def test_the_step_that_went_wrong_is_named_though_a_later_one_tells_it(
    kind: str, value: float, tiny_model: Model, change_logits: Callable[..., None]
) -> None:
    steps: list[int] = []
    request = request_of(tiny_model, "row", SETTINGS[kind])
    run_all(new_engine(tiny_model, lambda _, trace: steps.append(trace.step)), [request])
    bad_pass = len(steps) // 2

    def change(number: int, logits_RV: Tensor) -> Tensor:
        if number == bad_pass:
            logits_RV[0, 3] = value
        return logits_RV

    change_logits(change)
    assert bad_pass > 0
    told = error_of(run_all(new_engine(tiny_model), [request])["row"])
    assert told.startswith(f"logits of step {steps[bad_pass] + 1} are not finite in float32: ")


@pytest.mark.parametrize(
    ("settings", "factor", "step"),
    [
        (replace(IMAGE, cfg_scale=1e9), 1e30, 1),
        (replace(IMAGE, cfg_scale=0.0, temperature=1e-10), 1e30, 1),
        (replace(IMAGE, uncond_interval=2), 1e6, 2),
        (replace(TEXT, cfg_scale=1e9), 1e30, 1),
        (replace(TEXT, temperature=1.0), 1e3, 1),
        (ChoiceSettings(cfg_scale=1e9), 1e30, 1),
    ],
    ids=["guidance", "temperature", "a kept difference", "guidance of text", "scores of text", "guidance of choices"],
)
def test_what_overflows_after_the_logits_fails_too(
    settings: ImageSettings | TextSettings | ChoiceSettings,
    factor: float,
    step: int,
    tiny_model: Model,
    change_logits: Callable[..., None],
) -> None:
    request = request_of(tiny_model, "row", settings)
    assert not isinstance(run_all(new_engine(tiny_model), [request])["row"], RequestFailed)
    change_logits(lambda _, logits_RV: logits_RV * factor)
    told = error_of(run_all(new_engine(tiny_model), [request])["row"])
    assert told.startswith(f"logits of step {step} are not finite in float32: ")


@pytest.mark.parametrize(
    ("dtype", "fix"),
    [
        (torch.float16, "in float16: set dtype=bfloat16 or dtype=float32"),
        (torch.bfloat16, "in bfloat16: set dtype=float32"),
        (torch.float8_e4m3fn, "in float8: set dtype=bfloat16 or dtype=float32"),
    ],
)
def test_the_type_that_overflowed_is_named_with_what_to_set(
    dtype: torch.dtype, fix: str, tiny_model: Model, monkeypatch: pytest.MonkeyPatch, change_logits: Callable[..., None]
) -> None:
    engine = new_engine(tiny_model)
    monkeypatch.setattr(tiny_model.transformer, "weight_dtype", dtype)
    change_logits(lambda _, logits_RV: logits_RV / 0)
    assert error_of(run_all(engine, [image_of(tiny_model, "row")])["row"]) == f"logits of step 1 are not finite {fix}"


def test_an_image_that_the_codec_makes_no_numbers_of_is_an_error_and_others_are_as_without_it(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny_model.codec._model
    codec, decode = ImageCodec(network, max_batch=3), network.decode
    grids = [torch.full((2, 3), number) for number in range(3)]
    good = [image.tobytes() for image in codec.decode(grids)]

    def decode_badly(codes_BHW: Tensor) -> Tensor:
        pixels_B3hw = decode(codes_BHW)
        pixels_B3hw[codes_BHW[:, 0, 0] == 1, 2, -1, -1] = torch.nan
        return pixels_B3hw

    monkeypatch.setattr(network, "decode", decode_badly)
    first, wrong, third = codec.try_decode(grids)
    assert isinstance(wrong, CodecNotFinite)
    assert not isinstance(first, CodecNotFinite)
    assert not isinstance(third, CodecNotFinite)
    assert [first.tobytes(), third.tobytes()] == [good[0], good[2]]
    with pytest.raises(CodecNotFinite, match=r"an image's pixels are not finite in float32: vqvae/"):
        codec.decode(grids)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e25])
def test_codes_of_numbers_that_have_no_distance_are_an_error(
    value: float, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tiny_model.codec._model
    codec, encode = ImageCodec(network, max_batch=2), network.encode
    images = [random_image(48, 32), random_image(48, 32)]
    good = codec.encode(images)

    def encode_badly(pixels_B3hw: Tensor) -> Tensor:
        latents_BCHW = encode(pixels_B3hw)
        latents_BCHW[1, 0, 0, 0] = value
        return latents_BCHW

    monkeypatch.setattr(network, "encode", encode_badly)
    first, wrong = codec.try_encode(images)
    assert isinstance(first, Tensor)
    assert torch.equal(first, good[0])
    assert isinstance(wrong, CodecNotFinite)
    with pytest.raises(CodecNotFinite, match="an image's codes are not finite"):
        codec.encode(images)
