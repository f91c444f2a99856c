"""Block-wise decoding on made-up logits: which positions are decided when, and where an answer ends.

The vocabulary has 28 ids: 0 to 9 are text, 10 to 16 special, 20 to 27 image codes.
"""

import pytest
import torch
from torch import Tensor

from benchmarks.reference_noise import GeneratorNoise
from dimoo_core.decoding.text import TextDecoding
from dimoo_core.request.builder import answer_request
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import FinishReason
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import TextSettings

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
MASK, END, END_OF_TEXT = TOKENS.mask, TOKENS.answer_end, TOKENS.end_of_text


def decoding_of(
    settings: TextSettings, *, prompt: tuple[int, ...] = (1, 2), target: list[int] | None = None, seed: int = 0
) -> TextDecoding:
    ids = torch.tensor(target if target is not None else [MASK] * settings.max_tokens)
    noise = SeededNoise(seed, CPU)
    return TextDecoding(answer_request("row", torch.tensor(prompt), ids, settings, noise, TOKENS), TOKENS, CPU)


def logits_for(decoding: TextDecoding, wanted: list[int], certainty: list[float] | None = None) -> Tensor:
    """Logits under which each active position wants its id, the more certain ones first."""
    reads = decoding.reads().tolist()
    logits = torch.zeros(len(reads), 28)
    for row, position in enumerate(reads):
        logits[row, wanted[position]] = certainty[position] if certainty else 10.0 - position
    return logits


def run(decoding: TextDecoding, wanted: list[int]) -> tuple[tuple[int, ...], FinishReason]:
    while not decoding.is_done:
        decoding.advance([logits_for(decoding, wanted)])
    return decoding.answer()


def test_the_most_certain_positions_of_a_block_are_decided_first() -> None:
    decoding = decoding_of(TextSettings(max_tokens=4, block_length=4, num_steps=2))
    trace = decoding.advance([logits_for(decoding, [5, 6, 7, 8], certainty=[1.0, 4.0, 2.0, 3.0])])
    assert trace.committed.tolist() == [1, 3]
    assert decoding.target.tolist() == [MASK, 6, MASK, 8]
    assert decoding.reads().tolist() == [0, 2]


def test_blocks_are_decided_one_after_the_other() -> None:
    decoding = decoding_of(TextSettings(max_tokens=6, block_length=2, num_steps=6))
    seen = []
    while not decoding.is_done:
        seen.append(decoding.reads().tolist())
        decoding.advance([logits_for(decoding, [1, 2, 3, 4, 5, 6])])
    assert seen == [[0, 1], [1], [2, 3], [3], [4, 5], [5]]
    assert decoding.answer() == ((1, 2, 3, 4, 5, 6), "length")


def test_uneven_counts_put_the_larger_ones_first() -> None:
    decoding = decoding_of(TextSettings(max_tokens=5, block_length=5, num_steps=3))
    counts = []
    while not decoding.is_done:
        counts.append(len(decoding.advance([logits_for(decoding, [1, 2, 3, 4, 5])]).committed))
    assert counts == [2, 2, 1]


def test_steps_that_would_decide_nothing_are_not_run() -> None:
    decoding = decoding_of(TextSettings(max_tokens=4, block_length=2, num_steps=10))
    steps = []
    while not decoding.is_done:
        steps.append(decoding.advance([logits_for(decoding, [1, 2, 3, 4])]).step)
    assert steps == [0, 1, 5, 6]
    assert decoding.num_steps_run == 4


def test_what_is_known_of_an_answer_is_kept() -> None:
    settings = TextSettings(max_tokens=6, block_length=3, num_steps=6)
    decoding = decoding_of(settings, target=[MASK, 7, 7, 8, 8, MASK])
    assert run(decoding, [1, 2, 3, 4, 5, 6]) == ((1, 7, 7, 8, 8, 6), "length")
    assert decoding.num_steps_run == 2


@pytest.mark.parametrize("end", [END, END_OF_TEXT])
def test_an_answer_stops_after_the_block_with_its_end_and_is_cut_before_it(end: int) -> None:
    decoding = decoding_of(TextSettings(max_tokens=9, block_length=3, num_steps=9))
    assert run(decoding, [1, 2, 3, 4, end, 6, 7, 8, 9]) == ((1, 2, 3, 4), "stop")
    assert decoding.num_steps_run == 6
    assert decoding.target.tolist() == [1, 2, 3, 4, end, 6, MASK, MASK, MASK]


def test_the_block_with_the_end_is_decided_to_its_last_position() -> None:
    decoding = decoding_of(TextSettings(max_tokens=8, block_length=4, num_steps=8))
    decoding.advance([logits_for(decoding, [END, 2, 3, 4])])
    assert decoding.target[0] == END
    assert not decoding.is_done
    assert run(decoding, [END, 2, 3, 4]) == ((), "stop")
    assert decoding.num_steps_run == 4


def test_an_end_in_the_last_block_cuts_the_answer_too() -> None:
    decoding = decoding_of(TextSettings(max_tokens=4, block_length=2, num_steps=4))
    assert run(decoding, [1, 2, END, 4]) == ((1, 2), "stop")


def test_the_first_of_several_ends_counts() -> None:
    decoding = decoding_of(TextSettings(max_tokens=4, block_length=4, num_steps=4))
    assert run(decoding, [1, END_OF_TEXT, END, END]) == ((1,), "stop")


def test_end_of_text_in_the_prompt_leaves_one_block() -> None:
    """As in the reference, which looks for it in the whole sequence."""
    decoding = decoding_of(TextSettings(max_tokens=4, block_length=2, num_steps=4), prompt=(1, END_OF_TEXT))
    assert run(decoding, [1, 2, 3, 4]) == ((1, 2), "length")


def test_guidance_moves_away_from_the_unconditional_sequence() -> None:
    decoding = decoding_of(TextSettings(max_tokens=1, block_length=1, num_steps=1, cfg_scale=2.0))
    cond, uncond = torch.zeros(1, 28), torch.zeros(1, 28)
    cond[0, 3], cond[0, 4], uncond[0, 3] = 2.0, 1.5, 1.5
    trace = decoding.advance([cond, uncond])
    assert decoding.target.tolist() == [4]
    torch.testing.assert_close(trace.logits, 3 * cond - 2 * uncond)


def test_the_unconditional_sequence_sees_masks_around_the_answer() -> None:
    decoding = decoding_of(TextSettings(max_tokens=2, block_length=2, num_steps=2, cfg_scale=1.0))
    decoding.advance([logits_for(decoding, [5, 6]), logits_for(decoding, [5, 6])])
    (cond, cond_start), (uncond, uncond_start) = decoding.sequence_ids()
    assert cond.tolist() == [1, 2, TOKENS.answer_begin, 5, MASK, END]
    assert uncond.tolist() == [MASK, MASK, MASK, 5, MASK, MASK]
    assert cond_start == uncond_start == 3


def test_a_temperature_samples_other_ids_for_other_seeds() -> None:
    settings = TextSettings(max_tokens=8, block_length=8, num_steps=8, temperature=1.0)
    answers = set()
    for seed in range(5):
        decoding = decoding_of(settings, seed=seed)
        while not decoding.is_done:
            logits = torch.zeros(len(decoding.reads()), 28)
            logits[:, 10:] = -50.0
            decoding.advance([logits])
        answers.add(decoding.answer()[0])
    assert len(answers) == 5
    assert all(token_id < 10 for answer in answers for token_id in answer)


def test_random_remasking_decides_positions_by_lot() -> None:
    settings = TextSettings(max_tokens=8, block_length=8, num_steps=8, remasking="random")
    firsts = set()
    for seed in range(8):
        decoding = decoding_of(settings, seed=seed)
        firsts.add(int(decoding.advance([logits_for(decoding, [1] * 8)]).committed))
    assert len(firsts) > 2


def test_idle_steps_draw_their_noise_from_a_shared_generator() -> None:
    """A replay of the reference must come to the same numbers at the steps that are run."""
    settings = TextSettings(max_tokens=2, block_length=1, num_steps=6, remasking="random")
    ids = torch.tensor([MASK, MASK])
    noise = GeneratorNoise(torch.Generator().manual_seed(3))
    request = answer_request("row", torch.tensor([1]), ids, settings, noise, TOKENS)
    decoding = TextDecoding(request, TOKENS, CPU)
    drawn = []
    while not decoding.is_done:
        drawn.append(decoding.advance([logits_for(decoding, [1, 1])]).confidence.item())
    generator = torch.Generator().manual_seed(3)
    every_step = [torch.rand(5, generator=generator) for _ in range(4)]
    assert drawn == [every_step[0][2].item(), every_step[3][3].item()]


def test_the_unconditional_sequence_sees_what_was_decided_and_nothing_that_was_given() -> None:
    settings = TextSettings(max_tokens=4, block_length=4, num_steps=4, cfg_scale=1.0)
    decoding = decoding_of(settings, target=[MASK, 7, MASK, MASK])
    logits = logits_for(decoding, [5, 0, 6, 8], certainty=[9.0, 0.0, 1.0, 1.0])
    decoding.advance([logits, torch.zeros_like(logits)])
    (conditional, start), (unconditional, _) = decoding.sequence_ids()
    assert conditional[start : start + 4].tolist() == [5, 7, MASK, MASK]
    assert unconditional.tolist() == [MASK] * start + [5, MASK, MASK, MASK] + [MASK]
