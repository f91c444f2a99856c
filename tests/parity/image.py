"""Kinds ``t2i`` and ``i2i``: whole image generations, step by step.

Inpainting is text-to-image with a target that is partly known.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.reference_noise import GeneratorNoise, RecordedNoise
from dimoo_core.checkpoint.load import Model
from dimoo_core.decoding.base import CacheTrace, StepTrace
from dimoo_core.decoding.sampling import cosine_keep_counts
from dimoo_core.request.builder import image_request, with_newlines
from dimoo_core.request.noise import NoiseSource, Purpose
from dimoo_core.request.request import ImageResult, Request
from dimoo_core.request.templates import TEXT_TO_IMAGE_SYSTEM, UNCONDITIONAL_PROMPT, chat, edit_type_template
from dimoo_core.settings import PIXELS_PER_TOKEN, ImageSettings, StepCacheConfig
from tests.parity.checkpoints import Checkpoints, run_alone
from tests.parity.edit_type import image_spans, user_words
from tests.parity.golden import GUIDED_ATOL, Comparison, Golden, Mismatch
from tests.parity.witnessed_noise import WitnessedNoise, sha256_of

_SETTINGS = {"timesteps", "temperature", "cfg_scale", "cfg_img"}
_UNCONDITIONAL = {"uncond": "uncon_ids", "uncond_text": "uncon_text", "uncond_image": "uncon_image"}
_CACHE_SETTINGS = {"use_cache", "cache_ratio", "warmup_ratio", "refresh_interval"}


def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """The layout against the recorded ids, then the run with each source of noise that the golden allows."""
    if unknown := golden.meta["settings"].keys() - _SETTINGS - _CACHE_SETTINGS:
        raise Mismatch(f"unknown settings: {', '.join(sorted(unknown))}")
    model = checkpoints.model(golden)
    with _generator(golden) as generator:
        request = _request(golden, model, GeneratorNoise(generator))
        _check_layout(golden, comparison, checkpoints, request)
        _replay(golden, comparison, model, request)
    if golden.meta["rng"].get("recorded_full_noise"):
        _replay(golden, comparison, model, replace(request, noise=_recorded_noise(golden)))


def _request(golden: Golden, model: Model, noise: NoiseSource) -> Request:
    code_start, (rows, columns) = golden.meta["code_start"], golden.meta["grid"]
    settings = ImageSettings(
        width_px=columns * PIXELS_PER_TOKEN,
        height_px=rows * PIXELS_PER_TOKEN,
        num_steps=golden.meta["settings"]["timesteps"],
        cfg_scale=golden.meta["settings"]["cfg_scale"],
        cfg_image_scale=golden.meta["settings"].get("cfg_img", 0.0),
        temperature=golden.meta["settings"]["temperature"],
        step_cache=_step_cache(golden),
    )
    sequence = golden.ids("prompt_ids")
    cond, target = sequence[: code_start - 2], sequence[code_start:-2]
    has_text_guidance, has_image_guidance = settings.cfg_scale > 0, settings.cfg_image_scale > 0
    if golden.meta["kind"] == "t2i":
        prompts = {"cond": cond, "uncond": golden.ids("uncon_ids") if has_text_guidance else None}
    else:
        prompts = {
            "cond": cond,
            "uncond_text": golden.ids("uncon_text") if has_text_guidance else None,
            "uncond_image": golden.ids("uncon_image") if has_image_guidance else None,
        }
    return image_request(golden.name, prompts, target, settings, noise, model.tokens)


def _step_cache(golden: Golden) -> StepCacheConfig | None:
    settings = golden.meta["settings"]
    if not settings.get("use_cache"):
        return None
    return StepCacheConfig(
        reuse_ratio=settings["cache_ratio"],
        refresh_interval=settings["refresh_interval"],
        warmup_ratio=settings["warmup_ratio"],
    )


def _check_layout(golden: Golden, comparison: Comparison, checkpoints: Checkpoints, request: Request) -> None:
    """The product's own sequences are the recorded ones, from the ids and, if recorded, from the text."""
    tokens = checkpoints.model(golden).tokens
    sequence, (rows, columns) = golden.ids("prompt_ids"), golden.meta["grid"]
    code_start = golden.meta["code_start"]
    comparison.equal("seq_len", rows * columns, golden.meta["seq_len"])
    comparison.equal("newline_every", columns, golden.meta.get("newline_every", columns))
    comparison.equal("prompt_ids", request.sequences[0].around(request.target), sequence)
    for each in request.sequences[1:]:
        name = _UNCONDITIONAL[each.role]
        expected = torch.cat((golden.ids(name), sequence[code_start - 2 :]))
        comparison.equal(name, each.around(request.target), expected)
    is_newline = with_newlines(torch.zeros(rows, columns, dtype=torch.int64), tokens) == tokens.newline
    comparison.equal("newlines", request.target == tokens.newline, is_newline)

    if golden.meta["kind"] == "i2i":
        _check_image_to_image_prompt(golden, comparison, checkpoints, request)
    elif "input_prompt" in golden.meta:
        _check_prompt(golden, comparison, checkpoints, request)
    else:
        _check_prompt_frame(golden, comparison, checkpoints, request)


def _check_prompt(golden: Golden, comparison: Comparison, checkpoints: Checkpoints, request: Request) -> None:
    """The prompt's text gives the recorded ids, and the product's own layout the recorded streams."""
    model, tokenizer = checkpoints.model(golden), checkpoints.tokenizer(golden)
    text, unconditional = golden.meta["input_prompt"], golden.meta["uncon_prompt"]
    comparison.equal("input_prompt", tokenizer.encode(text), request.sequences[0].prefix[:-2].tolist())
    comparison.equal("uncon_prompt", chat(TEXT_TO_IMAGE_SYSTEM, UNCONDITIONAL_PROMPT), unconditional)
    comparison.equal("uncon_ids", tokenizer.encode(unconditional), golden.ids("uncon_ids").tolist())
    before, after = chat(TEXT_TO_IMAGE_SYSTEM, "\0").split("\0")
    comparison.true("input_prompt has another frame", text.startswith(before) and text.endswith(after))

    assert isinstance(request.settings, ImageSettings)
    prompt = text.removeprefix(before).removesuffix(after)
    built = model.layout.text_to_image(golden.name, prompt, request.settings, request.noise)
    if int((request.target == model.tokens.mask).sum()) < golden.meta["seq_len"]:
        codes_HW = _known_codes(request.target, model)
        built = model.layout.text_to_image(golden.name, prompt, request.settings, request.noise, known_codes=codes_HW)
    _compare_requests(comparison, built, request)


def _check_prompt_frame(golden: Golden, comparison: Comparison, checkpoints: Checkpoints, request: Request) -> None:
    """A recording without its prompt's text: the recorded ids, as text, give the recorded streams again."""
    model, tokenizer = checkpoints.model(golden), checkpoints.tokenizer(golden)
    text = tokenizer.decode(request.sequences[0].prefix[:-2].tolist(), skip_special_tokens=False)
    before, after = chat(TEXT_TO_IMAGE_SYSTEM, "\0").split("\0")
    comparison.true("the prompt has another frame", text.startswith(before) and text.endswith(after))
    assert isinstance(request.settings, ImageSettings)
    prompt = text.removeprefix(before).removesuffix(after)
    codes_HW = _known_codes(request.target, model)
    built = model.layout.text_to_image(golden.name, prompt, request.settings, request.noise, known_codes=codes_HW)
    _compare_requests(comparison, built, request)


def _check_image_to_image_prompt(
    golden: Golden, comparison: Comparison, checkpoints: Checkpoints, request: Request
) -> None:
    """Template and words of the edit type, and the input images of the recorded ids, give the recorded streams."""
    model = checkpoints.model(golden)
    template, words = edit_type_template(golden.meta["edit_type"]), user_words(golden.meta["input_prompt"])
    comparison.equal("input_prompt", template.filled(words), golden.meta["input_prompt"])
    comparison.equal("uncon_prompt", chat(template.system, UNCONDITIONAL_PROMPT), golden.meta["uncon_prompt"])
    assert isinstance(request.settings, ImageSettings)
    images = image_spans(request.sequences[0].prefix[:-2], model)
    built = model.layout.image_to_image(
        golden.name, template.system, template.words or words, images, request.settings, request.noise
    )
    _compare_requests(comparison, built, request)


def _known_codes(target: Tensor, model: Model) -> Tensor:
    """Codes of a target, -1 where it is masked."""
    is_newline = target == model.tokens.newline
    ids_HW = target[~is_newline].view(int(is_newline.sum()), -1)
    return (ids_HW - model.tokens.image_offset).masked_fill(ids_HW == model.tokens.mask, -1)


def _compare_requests(comparison: Comparison, built: Request, recorded: Request) -> None:
    comparison.equal("number of streams", len(built.sequences), len(recorded.sequences))
    for index, (mine, theirs) in enumerate(zip(built.sequences, recorded.sequences, strict=True)):
        comparison.equal(f"prefix of stream {index}", mine.prefix, theirs.prefix)
        comparison.equal(f"suffix of stream {index}", mine.suffix, theirs.suffix)
    comparison.equal("target", built.target, recorded.target)


def _replay(golden: Golden, comparison: Comparison, model: Model, request: Request) -> None:
    noise = WitnessedNoise(request.noise)
    num_masked = int((request.target == model.tokens.mask).sum())
    keep_counts = cosine_keep_counts(num_masked, golden.meta["settings"]["timesteps"])
    num_steps_seen = 0

    def on_step(trace: StepTrace) -> None:
        nonlocal num_steps_seen
        num_steps_seen += 1
        if trace.step >= len(golden.steps):
            raise Mismatch(f"step {trace.step} is run, but only {len(golden.steps)} steps were recorded")
        _check_step(golden, comparison, model, trace, keep_counts, noise.draws)

    result = run_alone(model, replace(request, noise=noise), on_step)
    comparison.equal("number of steps", num_steps_seen, len(golden.steps))
    assert isinstance(result, ImageResult)
    _check_result(golden, comparison, model, request, result)


def _check_step(
    golden: Golden,
    comparison: Comparison,
    model: Model,
    trace: StepTrace,
    keep_counts: list[int],
    draws: dict[tuple[int, Purpose], Tensor],
) -> None:
    recorded, step, code_start = golden.steps[trace.step], trace.step, golden.meta["code_start"]
    is_committed = torch.isin(trace.read, trace.committed)
    comparison.equal(f"step {step} number", step, recorded["step"])
    comparison.equal(f"step {step} n_masked", len(trace.read), recorded["n_masked"])
    comparison.equal(f"step {step} keep_n", keep_counts[step], recorded["keep_n"])
    _check_draws(comparison, f"step {step}", recorded, golden.tensors, draws, step)
    prefix = f"step{step:02d}"
    values, ids = golden.tensors[f"{prefix}.top8_vals"], golden.tensors[f"{prefix}.top8_ids"].long()
    at_ids = trace.logits.gather(-1, ids - model.tokens.image_offset)
    comparison.close(f"{prefix}.top8_vals", trace.logits.topk(ids.shape[1]).values, values, atol=GUIDED_ATOL)
    comparison.close(f"{prefix}.top8_ids, logits there", at_ids, values, atol=GUIDED_ATOL)
    comparison.equal(
        f"step {step} sampled_ids_all_masked", trace.sampled_ids.tolist(), recorded["sampled_ids_all_masked"]
    )
    comparison.close(f"{prefix}.conf", trace.confidence, golden.tensors[f"{prefix}.conf"])
    places = trace.read + code_start
    comparison.equal(f"step {step} committed_pos", places[is_committed].tolist(), recorded["committed_pos"])
    comparison.equal(f"step {step} committed_ids", trace.sampled_ids[is_committed].tolist(), recorded["committed_ids"])
    comparison.equal(f"step {step} remasked_pos", places[~is_committed].tolist(), recorded["remasked_pos"])
    comparison.equal(f"step {step} n_committed", int(is_committed.sum()), recorded["n_committed"])
    if trace.cache is not None and step + 1 < len(golden.steps):
        _check_cache(golden, comparison, trace.cache, step)


def _check_cache(golden: Golden, comparison: Comparison, cache: CacheTrace, step: int) -> None:
    """What a step leaves for the next one: the positions to compute, and the scores that they were chosen by.

    Scores that choose nothing, before a refresh, are recorded but not kept here.
    """
    following = golden.steps[step + 1]
    for each, name in enumerate(("cond", "uncond")):
        positions, recorded = cache.positions(each), following[f"{name}_compute_pos"]
        comparison.equal(f"step {step + 1} {name} refresh", positions is None, following["refresh"])
        if positions is not None:
            comparison.equal(f"step {step + 1} {name}_compute_pos", positions.tolist(), recorded)
            scores = cache.scores(each)
            assert scores is not None
            expected = golden.tensors[f"step{step:02d}.{name}_maxlogit"].flatten()
            comparison.close(f"step {step} {name}_maxlogit", scores, expected)


def _check_draws(
    comparison: Comparison,
    where: str,
    recorded: dict[str, object],
    tensors: dict[str, Tensor],
    draws: dict[tuple[int, Purpose], Tensor],
    step: int,
) -> None:
    """The noise drawn at this step is the recorded noise, bit for bit, and nothing else was drawn."""
    names: dict[Purpose, str] = {"sample": "u_sample", "confidence": "u_conf"}
    for purpose, name in names.items():
        drawn, digest = draws.get((step, purpose)), recorded.get(f"{name}_sha256")
        comparison.equal(f"{where} {name} drawn", drawn is not None, digest is not None)
        if drawn is not None:
            comparison.equal(f"{where} {name}_sha256", sha256_of(drawn), digest)
            whole = tensors.get(f"step{step:02d}.{name}")
            if whole is not None:
                comparison.equal(f"{where} {name}", drawn, whole)


def _check_result(golden: Golden, comparison: Comparison, model: Model, request: Request, result: ImageResult) -> None:
    ids_HW = result.vq_codes + model.tokens.image_offset
    comparison.equal("grid", list(ids_HW.shape), golden.meta["grid"])
    comparison.equal("vq_ids", ids_HW.flatten(), golden.ids("vq_ids"))
    final = request.sequences[0].around(with_newlines(ids_HW, model.tokens))
    comparison.equal("final_x", final, golden.ids("final_x"))
    margins = golden.meta.get("margins", {})
    comparison.equal("n_steps_run", result.num_steps, margins.get("n_steps_run", len(golden.steps)))
    forwards = margins.get("forwards_per_step", len(request.sequences))
    if golden.meta["kind"] == "i2i":  # the reference computes a stream even if its scale is 0
        comparison.true(f"more than {forwards} streams", len(request.sequences) <= forwards)
    else:
        comparison.equal("forwards_per_step", len(request.sequences), forwards)


@contextmanager
def _generator(golden: Golden) -> Iterator[torch.Generator]:
    """The generator that the run was recorded with: one of its own, or torch's global one."""
    rng = golden.meta["rng"]
    if rng["mode"] == "global":
        with torch.random.fork_rng(devices=[]):
            yield torch.manual_seed(rng["seed"])
    elif rng["mode"] == "generator":
        yield torch.Generator("cpu").manual_seed(rng["seed"])
    else:
        raise Mismatch(f"unknown rng mode {rng['mode']!r}")


def _recorded_noise(golden: Golden) -> RecordedNoise:
    draws: dict[tuple[int, Purpose], Tensor] = {}
    for step in range(len(golden.steps)):
        draws[step, "confidence"] = golden.tensors[f"step{step:02d}.u_conf"]
        if f"step{step:02d}.u_sample" in golden.tensors:
            draws[step, "sample"] = golden.tensors[f"step{step:02d}.u_sample"]
    return RecordedNoise(draws)
