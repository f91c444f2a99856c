"""Kinds ``layout_t2i``, ``layout_mmu`` and ``layout_full_mmu``: token sequences before anything is generated."""

import argparse
import hashlib
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.codec.resize import centered, crop_sizes, crop_sizes_for, fit, random_offset
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import Request
from dimoo_core.request.templates import TEXT_TO_IMAGE_SYSTEM, UNCONDITIONAL_PROMPT, UNDERSTANDING_SYSTEM, chat
from dimoo_core.settings import PIXELS_PER_TOKEN, ImageSettings, TextSettings
from pipeline.images.decoder_process import upright_rgb
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden

_MIN_VQ_MARGIN = 1e-3
"""Cells whose nearest two codes are closer than this may come out as either."""

_SCRIPT_RESOLUTION = 1024
"""What the reference's script for understanding crops to."""


def check_text_to_image(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Prompt, masked image and unconditional prompt of each case."""
    model = checkpoints.model(golden)
    for index, case in enumerate(golden.meta["cases"]):
        _check_text_to_image_case(comparison, checkpoints, golden, model, f"case {index}", case)


def _check_text_to_image_case(
    comparison: Comparison,
    checkpoints: Checkpoints,
    golden: Golden,
    model: Model,
    where: str,
    case: dict[str, Any],
) -> None:
    rows, columns = case["height"] // PIXELS_PER_TOKEN, case["width"] // PIXELS_PER_TOKEN
    settings = ImageSettings(width_px=columns * PIXELS_PER_TOKEN, height_px=rows * PIXELS_PER_TOKEN, cfg_scale=1.0)
    request = model.layout.text_to_image("row", case["prompt"], settings, no_noise())
    cond, uncond = request.sequences
    comparison.equal(f"{where} grid", [rows, columns], case["grid"])
    comparison.equal(f"{where} seq_len", rows * columns, case["seq_len"])
    comparison.equal(f"{where} newline_every", columns, case["newline_every"])
    comparison.equal(f"{where} input_prompt", chat(TEXT_TO_IMAGE_SYSTEM, case["prompt"]), case["input_prompt"])
    comparison.equal(f"{where} uncon_prompt", chat(TEXT_TO_IMAGE_SYSTEM, UNCONDITIONAL_PROMPT), case["uncon_prompt"])
    text_ids = checkpoints.tokenizer(golden).encode(case["input_prompt"])
    comparison.equal(f"{where} prompt_text_ids", text_ids, case["prompt_text_ids"])
    comparison.equal(f"{where} prompt_ids", cond.around(request.target).tolist(), case["prompt_ids"])
    comparison.equal(f"{where} code_start", len(cond.prefix), case["code_start"])
    expected = case["uncon_ids"] + case["prompt_ids"][case["code_start"] - 2 :]
    comparison.equal(f"{where} unconditional sequence", uncond.around(request.target).tolist(), expected)


def check_understanding(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """The sane variant of each case, and of the benchmark wrapper's all that precedes the answer."""
    model = checkpoints.model(golden)
    sizes = crop_sizes(golden.meta["crop_list"]["num_patches"], golden.meta["crop_list"]["patch_size"])
    for index, case in enumerate(golden.meta["cases"]):
        where = f"case {index}"
        image = golden.image(f"case{index}.image_u8")
        comparison.equal(f"{where} image_wh", list(image.size), case["image_wh"])
        (codes_HW,) = model.codec.encode([fit(upright_rgb(image), sizes, centered)])
        comparison.equal(f"{where} grid", list(codes_HW.shape), case["grid"])
        image_ids = model.layout.image_span(codes_HW).tolist()
        comparison.equal(f"{where} image_tokens_sane", image_ids, case["image_tokens_sane"])
        comparison.equal(f"{where} input_prompt", chat(UNDERSTANDING_SYSTEM, case["question"]), case["input_prompt"])
        request = _understanding(model, case["question"], codes_HW, golden.meta["gen_length"])
        (each,) = request.sequences
        comparison.equal(f"{where} prompt_ids", each.around(request.target).tolist(), case["sane"]["prompt_ids"])
        comparison.equal(f"{where} code_start", len(each.prefix), case["sane"]["code_start"])
        if "evalkit" in case:
            start = case["evalkit"]["code_start"]
            before = case["evalkit"]["prompt_ids"][:start]
            comparison.equal(f"{where} evalkit, before the answer", each.prefix.tolist(), before)
    comparison.not_checked += ["the script's broken variant", "the benchmark wrapper's prefilled answer"]


def check_full_understanding(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """A photograph on its whole way: random crop, codes, sequence."""
    model = checkpoints.model(golden)
    options = _options(golden.meta["argv"])
    image = upright_rgb(golden.image("image_u8"))
    comparison.equal("image_wh", list(image.size), golden.meta["image_wh"])
    cropped = fit(
        image, crop_sizes_for(image.size, _SCRIPT_RESOLUTION), random_offset(golden.meta["python_random_seed"])
    )
    check_crop(golden, comparison, cropped)
    (codes_HW,) = model.codec.encode([cropped])
    comparison.equal("grid", list(codes_HW.shape), golden.meta["grid"])
    image_ids, recorded = model.layout.image_span(codes_HW), golden.tensors["image_tokens"].long()
    comparison.equal("length of image_tokens", len(image_ids), len(recorded))
    is_clear = clear_cells(golden, image_ids, model)
    comparison.true("no cell of the image is clear enough to compare", bool(is_clear.any()))
    comparison.equal("image_tokens", image_ids[is_clear], recorded[is_clear])
    _check_around_image(golden, comparison, _understanding(model, options.prompt, codes_HW, options.gen_length))
    comparison.not_checked.append("the script's broken image part")


def check_crop(golden: Golden, comparison: Comparison, cropped: Image.Image) -> None:
    comparison.equal("crop_wh", list(cropped.size), golden.meta["crop_wh"])
    pixels_hw3 = torch.frombuffer(bytearray(cropped.tobytes()), dtype=torch.uint8).view(*cropped.size[::-1], 3)
    if (first_rows := golden.tensors.get("cropped_u8_rows0_16")) is not None:
        comparison.equal("cropped_u8_rows0_16", pixels_hw3[: len(first_rows)], first_rows)
    comparison.equal("cropped_sha256", hashlib.sha256(cropped.tobytes()).hexdigest(), golden.meta["cropped_sha256"])


def clear_cells(golden: Golden, image_ids: Tensor, model: Model) -> Tensor:
    """Positions that are no code, and those of cells with a margin."""
    is_code = image_ids >= model.tokens.image_offset
    is_clear = ~is_code
    is_clear[is_code] = golden.tensors["vq_margin"].flatten() >= _MIN_VQ_MARGIN
    return is_clear


def _check_around_image(golden: Golden, comparison: Comparison, request: Request) -> None:
    """What stands before and after the image; the script breaks the image itself by a second set of newlines."""
    (each,) = request.sequences
    sequence, recorded = each.around(request.target), golden.tensors["prompt_ids"].long()
    comparison.equal("length", len(recorded), golden.meta["length"])
    begin = int((sequence == golden.tensors["image_tokens"][0]).nonzero()[0])
    comparison.equal("prompt_ids before the image", sequence[:begin], recorded[:begin])
    end = begin + len(golden.tensors["image_tokens"])
    after = sequence[end:]
    comparison.equal("prompt_ids after the image", after, recorded[len(recorded) - len(after) :])
    answer_at = len(recorded) - len(request.target) - len(each.suffix)
    comparison.equal("code_start", answer_at, golden.meta["code_start"])


def _understanding(model: Model, question: str, codes_HW: Tensor, num_tokens: int) -> Request:
    settings = TextSettings(max_tokens=num_tokens, block_length=num_tokens)
    return model.layout.understanding("row", question, [codes_HW], settings, no_noise())


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--gen_length", type=int, default=1024)
    return parser.parse_known_args(argv)[0]


def no_noise() -> SeededNoise:
    return SeededNoise(0, torch.device("cpu"))
