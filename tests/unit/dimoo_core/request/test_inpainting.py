"""Masks on the token grid: boxes, pixel masks, growth."""

import pytest
import torch

from benchmarks.box_pixels import box_pixels, encoded_size
from dimoo_core.errors import RequestError
from dimoo_core.request.inpainting import Box, centered_box, dilated, masked_codes, token_mask


def test_a_box_in_the_middle_takes_its_share_of_each_side() -> None:
    assert centered_box((96, 64), 0.5, 1) == Box(24, 0, 72, 64)
    assert centered_box((75, 58), 0.5, 0.5) == Box(18, 14, 56, 43)


def test_a_token_is_masked_if_more_than_half_of_it_is() -> None:
    def mask(right: int) -> list[list[bool]]:
        rows: list[list[bool]] = token_mask(box_pixels((32, 32), Box(0, 0, right, 16))).tolist()
        return rows

    assert mask(8) == [[False, False], [False, False]]
    assert mask(9) == [[True, False], [False, False]]
    assert mask(25) == [[True, True], [False, False]]


def test_a_box_follows_the_image_to_the_size_at_which_it_is_encoded() -> None:
    assert encoded_size((75, 58)) == (64, 48)
    pixels_hw = box_pixels((75, 58), Box(0, 0, 75, 29))
    assert pixels_hw.shape == (48, 64)
    assert pixels_hw.sum() == 24 * 64


def test_growth_takes_in_the_diagonals_and_stops_at_the_edge() -> None:
    mask_HW = torch.zeros(4, 4, dtype=torch.bool)
    mask_HW[0, 0] = True
    assert dilated(mask_HW, 0).sum() == 1
    assert dilated(mask_HW, 1).nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_codes_are_left_out_where_the_mask_is() -> None:
    codes_HW = torch.arange(4).view(2, 2)
    assert masked_codes(codes_HW, torch.tensor([[True, False], [False, True]])).tolist() == [[-1, 1], [2, -1]]
    with pytest.raises(RequestError, match="covers no token"):
        masked_codes(codes_HW, torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(RequestError, match=r"the mask has \(1, 2\) tokens, the image \(2, 2\)"):
        masked_codes(codes_HW, torch.ones(1, 2, dtype=torch.bool))
