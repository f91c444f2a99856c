"""Kind ``sampling``: the pure functions from logits to decisions."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from dimoo_core.decoding.guidance import guide_image, guide_image_to_image, guide_text
from dimoo_core.decoding.sampling import (
    cosine_keep_counts,
    even_transfer_counts,
    gumbel_max_sample,
    noisy_text_scores,
    stays_masked,
)
from dimoo_core.engine.kv_cache import positions_to_compute, refresh_steps
from dimoo_core.settings import StepCacheConfig
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden, Mismatch

_RTOL = 1e-6
_GUIDANCE_INPUTS = {"cfg.cond", "cfg.uncond", "cfg.uncond_img"}
_NOT_LISTS = {"kind", "dtype", "compare", "tensors", "checkpoint"}


def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Every list and every guidance formula that there is a function for; the others are named."""
    for name, cases in golden.meta.items():
        if name in _NOT_LISTS or name.endswith("_note"):
            continue
        if name in _LISTS:
            _LISTS[name](comparison, cases, golden.tensors)
        else:
            comparison.not_checked.append(name)
    for name, expected in golden.tensors.items():
        if name.startswith("cfg."):
            _check_guidance(comparison, name, expected, golden.tensors)


def _check_keep_counts(comparison: Comparison, cases: list[dict[str, Any]], _: dict[str, Tensor]) -> None:
    for case in cases:
        length, num_steps = case["length"], case["timesteps"]
        got = cosine_keep_counts(length, num_steps)
        comparison.equal(f"cosine_keep_n of {length} in {num_steps} steps", got, case["keep_n"])


def _check_transfer_counts(comparison: Comparison, cases: list[dict[str, Any]], _: dict[str, Tensor]) -> None:
    for case in cases:
        count, num_steps = case["mask_count"], case["steps"]
        got = even_transfer_counts(count, num_steps)
        comparison.equal(f"get_num_transfer_tokens of {count} in {num_steps} steps", got, case["num_transfer"])


def _check_topk(comparison: Comparison, cases: list[dict[str, Any]], tensors: dict[str, Tensor]) -> None:
    for index, case in enumerate(cases):
        probability, uniform = tensors[f"topk{index}.probs"].flatten(), tensors[f"topk{index}.u"].flatten()
        stays = stays_masked(probability, case["keep_n"], case["temperature"], uniform)
        comparison.equal(f"topk{index}.still_masked", stays, tensors[f"topk{index}.still_masked"].flatten())
        comparison.equal(f"topk{index} n_still_masked", int(stays.sum()), case["n_still_masked"])


def _check_gumbel(comparison: Comparison, cases: list[dict[str, Any]], tensors: dict[str, Tensor]) -> None:
    for index, case in enumerate(cases):
        logits = tensors[f"gumbel{index}.logits"]
        comparison.equal(f"gumbel{index} shape", list(logits.shape), case["shape"])
        uniform = tensors.get(f"gumbel{index}.u")
        flat_uniform = None if uniform is None else uniform.flatten(0, -2)
        sampled = gumbel_max_sample(logits.flatten(0, -2), case["temperature"], flat_uniform)
        comparison.equal(f"gumbel{index}.sampled", sampled, tensors[f"gumbel{index}.sampled"].flatten())


def _check_text_noise(comparison: Comparison, case: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    logits = tensors["addg.logits"]
    got = noisy_text_scores(logits, case["temperature"], tensors["addg.u"])
    comparison.close("addg.out", got, tensors["addg.out"], atol=0.0, rtol=_RTOL)
    comparison.equal("addg.logits at temperature 0", noisy_text_scores(logits, 0.0, None), logits)


def _check_guidance(comparison: Comparison, name: str, expected: Tensor, tensors: dict[str, Tensor]) -> None:
    """The name gives formula and scales: ``cfg.t2i_scale4``, ``cfg.text_1.5``, ``cfg.i2i_2.5_4`` for text and image."""
    if name in _GUIDANCE_INPUTS:
        return
    formula, *scales = name.removeprefix("cfg.").replace("scale", "").split("_")
    cond, uncond = tensors["cfg.cond"], tensors["cfg.uncond"]
    if formula == "t2i":
        got = guide_image(cond, uncond, *map(float, scales))
    elif formula == "text":
        got = guide_text(cond, uncond, *map(float, scales))
    elif formula == "i2i":
        got = guide_image_to_image(cond, uncond, tensors["cfg.uncond_img"], *map(float, scales))
    else:
        raise Mismatch(f"{name}: unknown formula")
    comparison.close(name, got, expected, atol=0.0, rtol=_RTOL)


def _check_cache_selection(comparison: Comparison, cases: list[dict[str, Any]], tensors: dict[str, Tensor]) -> None:
    for case in cases:
        name = f"quant{case['case']}"
        scores, expected = tensors[f"{name}.max_logit"][0], tensors[f"{name}.to_compute"][0]
        positions = positions_to_compute(scores, case["cache_ratio"])
        comparison.equal(f"{name}.to_compute", positions, expected.nonzero().squeeze(-1))
        comparison.equal(f"{name} n_compute", len(positions), case["n_compute"])


def _check_refresh_steps(comparison: Comparison, cases: list[dict[str, Any]], _: dict[str, Tensor]) -> None:
    for case in cases:
        config = StepCacheConfig(warmup_ratio=case["warmup_ratio"], refresh_interval=case["refresh_interval"])
        got = sorted(refresh_steps(case["timesteps"], config))
        comparison.equal(f"refresh steps of {case['timesteps']}", got, case["refresh"])


_LISTS: dict[str, Callable[[Comparison, Any, dict[str, Tensor]], None]] = {
    "cosine_keep_n": _check_keep_counts,
    "mask_by_random_topk": _check_topk,
    "gumbel_max_sample": _check_gumbel,
    "add_gumbel_noise": _check_text_noise,
    "get_num_transfer_tokens": _check_transfer_counts,
    "cache_selection": _check_cache_selection,
    "refresh_steps": _check_refresh_steps,
}
