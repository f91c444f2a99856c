"""Kind ``paint``: an image of which a box, or all but a box, is to be painted anew."""

from typing import Any

import torch
from PIL import Image, ImageDraw

from benchmarks.box_pixels import box_pixels
from dimoo_core.checkpoint.load import Model
from dimoo_core.request.inpainting import Box, centered_box, dilated, masked_codes, token_mask
from dimoo_core.settings import PIXELS_PER_TOKEN, ImageSettings
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden, Mismatch
from tests.parity.layout import no_noise

_GRAY = (127, 127, 127)
_OPTIONS = {"mask_h_ratio", "mask_w_ratio", "mask_mode", "dilate_latent_k", "downsample_mode"}
_RESULTS = {"case", "grid", "seq_len", "code_start", "body_tokens", "mask_grid", "n_masked"}


def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Each case from pixels, mask options and prompt to its two streams."""
    model, image = checkpoints.model(golden), golden.image("image_u8")
    comparison.equal("image_size_wh", list(image.size), golden.meta["image_size_wh"])
    for index, case in enumerate(golden.meta["cases"]):
        if unknown := case.keys() - _OPTIONS - _RESULTS:
            raise Mismatch(f"case {index} has unknown options: {', '.join(sorted(unknown))}")
        _check_case(golden, comparison, model, image, index, case)


def _check_case(
    golden: Golden, comparison: Comparison, model: Model, image: Image.Image, index: int, case: dict[str, Any]
) -> None:
    where = f"case {index}"
    box = centered_box(image.size, case["mask_w_ratio"], case["mask_h_ratio"])
    seen = torch.frombuffer(bytearray(_preview(image, box, case["mask_mode"]).tobytes()), dtype=torch.uint8)
    comparison.equal(f"{where} vis_u8", seen.view(image.height, image.width, 3), golden.tensors[f"case{index}.vis_u8"])

    pixels_hw = box_pixels(image.size, box)
    pixels_hw = 1 - pixels_hw if case["mask_mode"] == "outpainting" else pixels_hw
    mask_HW = dilated(token_mask(pixels_hw, case.get("downsample_mode", "area")), case.get("dilate_latent_k", 0))
    (codes_HW,) = model.codec.encode([image])
    comparison.equal(f"{where} grid", list(codes_HW.shape), case["grid"])
    comparison.equal(f"{where} seq_len", codes_HW.numel(), case["seq_len"])
    comparison.equal(f"{where} mask_grid", mask_HW.int(), torch.tensor(case["mask_grid"]))
    comparison.equal(f"{where} n_masked", int(mask_HW.sum()), case["n_masked"])

    height_px, width_px = (side * PIXELS_PER_TOKEN for side in codes_HW.shape)
    settings = ImageSettings(width_px=width_px, height_px=height_px, cfg_scale=1.0)
    request = model.layout.text_to_image(
        "row", golden.meta["prompt"], settings, no_noise(), known_codes=masked_codes(codes_HW, mask_HW)
    )
    cond, uncond = request.sequences
    recorded = golden.ids(f"case{index}.prompt_ids")
    comparison.equal(f"{where} body_tokens", request.target.tolist(), case["body_tokens"])
    comparison.equal(f"{where} prompt_ids", cond.around(request.target), recorded)
    comparison.equal(f"{where} code_start", len(cond.prefix), case["code_start"])
    after = recorded[len(cond.prefix) - 2 :]
    comparison.equal(f"{where} uncon_ids", uncond.around(request.target), torch.cat((golden.ids("uncon_ids"), after)))


def _preview(image: Image.Image, box: Box, mode: str) -> Image.Image:
    """The recorded picture of the box: gray inside, where the reference draws one pixel too many, or gray outside."""
    corners = (box.left, box.top, box.right, box.bottom)
    if mode == "inpainting":
        preview = image.copy()
        ImageDraw.Draw(preview).rectangle(corners, fill=_GRAY)
        return preview
    preview = Image.new("RGB", image.size, _GRAY)
    preview.paste(image.crop(corners), corners)
    return preview
