"""Kind ``preprocess``: crop sizes, scaling and cropping of input images."""

import re
from typing import Any

import torch

from dimoo_core.codec.resize import (
    Offset,
    best_crop_size,
    crop_sizes,
    crop_sizes_for,
    fit,
    plan_fit,
    random_offset,
)
from pipeline.images.decoder_process import upright_rgb
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import Comparison, Golden

_TARGET_KEY = re.compile(r"t(\d+)")


def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """Size tables, the way of many image sizes to their crop, and pixels of some crops."""
    for index, table in enumerate(golden.meta["tables"]):
        _check_table(comparison, f"table {index}", table)
    for case in golden.meta["sizes"]:
        _check_size(comparison, case)
    for index, case in enumerate(golden.meta["crops"]):
        _check_crop(golden, comparison, index, case)


def _check_table(comparison: Comparison, where: str, table: dict[str, Any]) -> None:
    options = {"max_ratio": table["max_ratio"]} if "max_ratio" in table else {}
    sizes = [list(size) for size in crop_sizes(table["num_patches"], table["patch_size"], **options)]
    comparison.equal(f"{where} crop_size_list_wh", sizes, table["crop_size_list_wh"])
    comparison.equal(f"{where} n_sizes", len(sizes), table.get("n_sizes", len(sizes)))
    if table.get("target") is not None:
        by_target = [list(size) for size in crop_sizes_for((640, 480), table["target"])]
        comparison.equal(f"{where} sizes for target {table['target']}", by_target, table["crop_size_list_wh"])


def _check_size(comparison: Comparison, case: dict[str, Any]) -> None:
    size = (case["w"], case["h"])
    where = f"{size[0]}x{size[1]}"
    for key, expected in case.items():
        if match := _TARGET_KEY.fullmatch(key):
            plan = plan_fit(size, crop_sizes_for(size, int(match[1])))
            comparison.equal(f"{where} {key} crop_wh", list(plan.crop), expected["crop_wh"])
            comparison.equal(f"{where} {key} box_halvings", plan.num_halvings, expected["box_halvings"])
            comparison.equal(f"{where} {key} bicubic_to_wh", list(plan.scaled), expected["bicubic_to_wh"])
            comparison.equal(f"{where} {key} max_offset_xy", list(plan.max_offset), expected["max_offset_xy"])
    if (expected := case.get("evalkit_single_image_crop_wh")) is not None:
        crop = best_crop_size(size, crop_sizes_for(size, "adaptive"))
        comparison.equal(f"{where} evalkit_single_image_crop_wh", list(crop), expected)


def _check_crop(golden: Golden, comparison: Comparison, index: int, case: dict[str, Any]) -> None:
    drawn: list[int] = []
    draw = random_offset(case["python_random_seed"])

    def witnessed(max_left: int, max_upper: int) -> tuple[int, int]:
        left, upper = draw(max_left, max_upper)
        drawn.extend((left, upper, max_left, max_upper))
        return left, upper

    offset: Offset = witnessed
    image = upright_rgb(golden.image(f"crop{index}.image_u8"))
    comparison.equal(f"crop {index} image_wh", list(image.size), case["image_wh"])
    cropped = fit(image, crop_sizes(case["num_patches"], case["patch_size"]), offset)
    comparison.equal(f"crop {index} crop_wh", list(cropped.size), case["crop_wh"])
    names = ("offset_left", "offset_upper", "offset_left_max", "offset_upper_max")
    comparison.equal(f"crop {index} {', '.join(names)}", drawn, [case[name] for name in names])
    pixels_hw3 = torch.frombuffer(bytearray(cropped.tobytes()), dtype=torch.uint8).view(*cropped.size[::-1], 3)
    comparison.equal(f"crop {index} out_u8", pixels_hw3, golden.tensors[f"crop{index}.out_u8"])
