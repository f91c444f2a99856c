"""Parallel decoding of an image on made-up logits, for a codebook of eight."""

import pytest
import torch
from torch import Tensor

from dimoo_core.decoding.image import ImageDecoding
from dimoo_core.decoding.sampling import cosine_keep_counts
from dimoo_core.request.builder import image_request, with_newlines
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ImageSettings

CPU = torch.device("cpu")
TOKENS = SpecialTokens(
    mask=10,
    newline=11,
    image_begin=12,
    image_end=13,
    answer_begin=14,
    answer_end=15,
    end_of_text=16,
    image_offset=20,
    num_codes=8,
)


def decoding_of(codes_HW: Tensor, *, num_steps: int = 4, temperature: float = 0.0, seed: int = 0) -> ImageDecoding:
    """An image of which the codes that are not -1 are known."""
    ids_HW = torch.where(codes_HW < 0, TOKENS.mask, codes_HW + TOKENS.image_offset)
    rows, columns = codes_HW.shape
    settings = ImageSettings(
        width_px=columns * 16, height_px=rows * 16, num_steps=num_steps, cfg_scale=0.0, temperature=temperature
    )
    target, noise = with_newlines(ids_HW, TOKENS), SeededNoise(seed, CPU)
    return ImageDecoding(
        image_request("row", {"cond": torch.tensor([1])}, target, settings, noise, TOKENS), TOKENS, CPU
    )


def unknown(rows: int, columns: int) -> Tensor:
    return torch.full((rows, columns), -1)


def logits_of(decoding: ImageDecoding, seed: int) -> Tensor:
    return 3 * torch.randn(len(decoding.reads()), 8, generator=torch.Generator().manual_seed(seed))


def finish(decoding: ImageDecoding) -> list[int]:
    """Run every step; how many positions each one decided."""
    counts: list[int] = []
    while not decoding.is_done:
        counts.append(len(decoding.advance([logits_of(decoding, len(counts))]).committed))
    return counts


def test_newlines_are_never_read_nor_touched() -> None:
    decoding = decoding_of(unknown(2, 3))
    assert decoding.reads().tolist() == [0, 1, 2, 4, 5, 6]
    finish(decoding)
    assert decoding.target[[3, 7]].tolist() == [TOKENS.newline] * 2
    assert decoding.vq_codes().shape == (2, 3)
    assert 0 <= int(decoding.vq_codes().min()) <= int(decoding.vq_codes().max()) < 8


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_each_step_leaves_as_many_masks_as_the_schedule_says(temperature: float) -> None:
    decoding = decoding_of(unknown(4, 6), num_steps=6, temperature=temperature)
    decided = finish(decoding)
    left = [24 - sum(decided[: step + 1]) for step in range(6)]
    assert left == cosine_keep_counts(24, 6)


def test_the_most_likely_ids_are_kept_and_the_others_masked_again() -> None:
    decoding = decoding_of(unknown(1, 3), num_steps=2)
    logits = torch.zeros(3, 8)
    logits[0, 5], logits[1, 6], logits[2, 7] = 1.0, 9.0, 5.0
    trace = decoding.advance([logits])
    assert trace.sampled_ids.tolist() == [25, 26, 27]
    assert trace.committed.tolist() == [1]
    assert decoding.target.tolist() == [TOKENS.mask, 26, TOKENS.mask, TOKENS.newline]


def test_known_codes_of_an_image_are_never_touched() -> None:
    codes = torch.tensor([[3, -1, 4], [-1, -1, 5]])
    decoding = decoding_of(codes, num_steps=3)
    finish(decoding)
    assert torch.equal(decoding.vq_codes()[codes >= 0], codes[codes >= 0])


def test_an_image_is_done_when_nothing_is_masked_even_before_its_last_step() -> None:
    decoding = decoding_of(unknown(1, 3), num_steps=20, temperature=1.0)
    assert finish(decoding) == [1, 1, 1]
    assert decoding.num_steps_run == 3


def test_an_image_of_one_step_is_decided_at_once() -> None:
    assert finish(decoding_of(unknown(2, 2), num_steps=1)) == [4]


def test_the_same_seed_gives_the_same_image_and_another_seed_another() -> None:
    images = []
    for seed in (1, 1, 2):
        decoding = decoding_of(unknown(4, 4), temperature=1.0, seed=seed)
        finish(decoding)
        images.append(decoding.vq_codes())
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
