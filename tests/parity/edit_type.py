"""Kinds ``layout_i2i`` and ``layout_full_i2i``: prompts and input images of every ``edit_type`` of the reference."""

import argparse
from typing import Any

import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.codec.resize import centered, crop_sizes, crop_sizes_for, fit, random_offset
from dimoo_core.request.request import Request
from dimoo_core.request.templates import UNCONDITIONAL_PROMPT, PromptTemplate, chat, edit_type_template
from dimoo_core.settings import PIXELS_PER_TOKEN, ImageSettings
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from manifests.row.task_name import find_task
from pipeline.images.decoder_process import upright_rgb
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden
from tests.parity.layout import check_crop, clear_cells, no_noise

_SCRIPT_RESOLUTION = 512
"""What the reference's script for images from images crops to."""

_GUIDED = {"cfg_scale": 1.0, "cfg_image_scale": 1.0}


def user_words(prompt: str) -> str:
    """The user's turn of a prompt."""
    return prompt.split("<user>")[1].removesuffix("</user>")


def image_spans(ids: Tensor, model: Model) -> list[Tensor]:
    """Codes of the images in a sequence, each (rows, columns)."""
    tokens, images = model.tokens, []
    begins, ends = (ids == tokens.image_begin).nonzero().flatten(), (ids == tokens.image_end).nonzero().flatten()
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        inside = ids[begin + 1 : end]
        is_newline = inside == tokens.newline
        images.append(inside[~is_newline].view(int(is_newline.sum()), -1) - tokens.image_offset)
    return images


def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Each edit type from pixels and words to its three streams."""
    model = checkpoints.model(golden)
    sizes = crop_sizes(golden.meta["crop_list"]["num_patches"], golden.meta["crop_list"]["patch_size"])
    images = [fit(upright_rgb(golden.image(name)), sizes, centered) for name in ("image_u8", "ref_u8")]
    comparison.equal("image_wh", list(images[0].size), golden.meta["image_wh"])
    comparison.equal("ref_wh", list(images[1].size), golden.meta["ref_wh"])
    codes = model.codec.encode(images)
    for name, codes_HW in zip(("image_tokens", "ref_tokens"), codes, strict=True):
        comparison.equal(name, model.layout.image_span(codes_HW), golden.ids(name))
    for case in golden.meta["cases"]:
        _check_case(comparison, model, golden.meta["prompt"], codes[: case["n_input_images"]], case)


def _check_case(comparison: Comparison, model: Model, prompt: str, codes: list[Tensor], case: dict[str, Any]) -> None:
    where, template = case["edit_type"], edit_type_template(case["edit_type"])
    comparison.equal(f"{where} system_prompt", template.system, case["system_prompt"])
    comparison.equal(f"{where} input_prompt", template.filled(prompt), case["input_prompt"])
    comparison.equal(f"{where} uncon_prompt", chat(template.system, UNCONDITIONAL_PROMPT), case["uncon_prompt"])
    _check_row(comparison, case, prompt)
    request = _request(model, template, prompt, codes)
    _check_streams(comparison, where, request, {name: torch.tensor(case[name]) for name in _TENSORS})
    comparison.equal(f"{where} code_start", len(request.sequences[0].prefix), case["code_start"])
    comparison.equal(f"{where} grid", list(codes[-1].shape), case["grid"])
    comparison.equal(f"{where} seq_len", codes[-1].numel(), case["seq_len"])
    comparison.equal(f"{where} newline_every", codes[-1].shape[1], case["newline_every"])


def _check_row(comparison: Comparison, case: dict[str, Any], prompt: str) -> None:
    """A manifest row of that name asks for the same words and as many images, in the same order.

    ``multi_view`` alone is also a task of the product's own, whose views are named in a column.
    """
    where, task = case["edit_type"], find_task(case["edit_type"])
    if task is None or task.kind == "views":
        return
    images = [b"content", b"reference"][: case["n_input_images"]]
    record = {"task": where, "prompt": prompt, **dict(zip(("image", "style_image"), images, strict=False))}
    row = parse_row(record, 0, RowDefaults())
    comparison.equal(f"{where} prompt of a row", chat(task.system_for(row.prompt), row.prompt), case["input_prompt"])
    comparison.equal(f"{where} images of a row", [source.data for source in row.inputs], images)


_TENSORS = ("prompt_ids", "uncon_text", "uncon_image")


def _request(model: Model, template: PromptTemplate, prompt: str, codes: list[Tensor]) -> Request:
    """The output is as large as the last input image."""
    height_px, width_px = (side * PIXELS_PER_TOKEN for side in codes[-1].shape)
    settings = ImageSettings(width_px=width_px, height_px=height_px, **_GUIDED)
    return model.layout.image_to_image("row", template.system, template.words or prompt, codes, settings, no_noise())


def _check_streams(comparison: Comparison, where: str, request: Request, recorded: dict[str, Tensor]) -> None:
    cond, without_text, without_image = request.sequences
    comparison.equal(f"{where} prompt_ids", cond.around(request.target), recorded["prompt_ids"])
    after = recorded["prompt_ids"][len(cond.prefix) - 2 :]
    for sequence, name in ((without_text, "uncon_text"), (without_image, "uncon_image")):
        comparison.equal(f"{where} {name}", sequence.around(request.target), torch.cat((recorded[name], after)))


def check_full(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """A photograph on its whole way: random crop, codes, three streams."""
    model = checkpoints.model(golden)
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--edit_type", required=True)
    options = parser.parse_args(golden.meta["argv"])
    image = upright_rgb(golden.image("image_u8"))
    comparison.equal("image_wh", list(image.size), golden.meta["image_wh"])
    offset = random_offset(golden.meta["python_random_seed"])
    cropped = fit(image, crop_sizes_for(image.size, _SCRIPT_RESOLUTION), offset)
    check_crop(golden, comparison, cropped)
    (codes_HW,) = model.codec.encode([cropped])
    comparison.equal("grid", list(codes_HW.shape), golden.meta["grid"])
    image_ids, recorded_ids = model.layout.image_span(codes_HW), golden.ids("image_tokens")
    is_clear = clear_cells(golden, image_ids, model)
    comparison.true("no cell of the image is clear enough to compare", bool(is_clear.any()))
    comparison.equal("image_tokens", image_ids[is_clear], recorded_ids[is_clear])

    (recorded_HW,) = image_spans(recorded_ids, model)  # cells that are not clear must not hide what is around them
    request = _request(model, edit_type_template(options.edit_type), options.prompt, [recorded_HW])
    _check_streams(comparison, options.edit_type, request, {name: golden.ids(name) for name in _TENSORS})
    comparison.equal("code_start", len(request.sequences[0].prefix), golden.meta["code_start"])
    comparison.equal("length", len(request.sequences[0].around(request.target)), golden.meta["length"])
