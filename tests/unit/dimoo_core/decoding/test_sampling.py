"""From logits to ids and to decisions, and the schedules that say how many."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dimoo_core.decoding.guidance import guide_image, guide_text
from dimoo_core.decoding.sampling import (
    cosine_keep_counts,
    even_transfer_counts,
    gumbel,
    gumbel_max_sample,
    noisy_text_scores,
    probability_of,
    stays_masked,
)

counts, steps = st.integers(1, 5000), st.integers(1, 200)


def test_guidance_of_scale_zero_changes_nothing() -> None:
    cond, uncond = torch.randn(3, 5), torch.randn(3, 5)
    assert torch.equal(guide_image(cond, uncond, 0.0), cond)
    torch.testing.assert_close(guide_text(cond, uncond, 0.0), cond)
    torch.testing.assert_close(guide_image(cond, uncond, 2.5), guide_text(cond, uncond, 2.5))


def test_gumbel_noise_is_finite_at_both_ends() -> None:
    assert gumbel(torch.tensor([0.0, 0.5, 1.0 - 2**-24])).isfinite().all()


def test_temperature_zero_takes_the_best_column_and_needs_no_noise() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, -1.0, 4.9]])
    assert gumbel_max_sample(logits, 0.0, None).tolist() == [1, 0]
    assert noisy_text_scores(logits, 0.0, None) is logits


def test_sampling_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature above 0 needs noise"):
        gumbel_max_sample(torch.zeros(1, 2), 1.0, None)
    with pytest.raises(ValueError, match="temperature above 0 needs noise"):
        noisy_text_scores(torch.zeros(1, 2), 1.0, None)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax_of_the_logits(temperature: float) -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0]).expand(40_000, 4)
    uniform = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(logits[0] / temperature, -1)
    shares = gumbel_max_sample(logits, temperature, uniform).bincount(minlength=4) / len(logits)
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)
    text_shares = noisy_text_scores(logits, temperature, uniform).argmax(-1).bincount(minlength=4) / len(logits)
    torch.testing.assert_close(text_shares, expected, atol=0.01, rtol=0)


def test_confidence_is_the_probability_of_the_sampled_column() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    got = probability_of(logits, torch.tensor([1, 1]))
    torch.testing.assert_close(got, torch.sigmoid(torch.tensor([1.0, -2.0], dtype=torch.float64)))


def test_the_least_confident_stay_masked() -> None:
    probability, uniform = torch.tensor([0.9, 0.1, 0.5, 0.3]), torch.zeros(4)
    assert stays_masked(probability, 2, 0.0, uniform).tolist() == [False, True, False, True]
    assert stays_masked(probability, 0, 0.0, uniform).sum() == 0


def test_one_position_is_decided_however_many_should_stay() -> None:
    assert stays_masked(torch.tensor([0.9, 0.1]), 7, 0.0, torch.zeros(2)).tolist() == [False, True]
    assert stays_masked(torch.tensor([0.9]), 1, 1.0, torch.tensor([0.5])).tolist() == [False]


def test_equal_confidences_at_the_cut_are_all_decided() -> None:
    assert stays_masked(torch.tensor([0.5, 0.5, 0.5, 0.1]), 2, 0.0, torch.zeros(4)).tolist() == [False] * 3 + [True]


def test_a_temperature_lets_unlikely_positions_be_decided() -> None:
    probability = torch.tensor([0.9, 0.1])
    assert stays_masked(probability, 1, 1.0, torch.tensor([0.01, 0.999])).tolist() == [True, False]


@given(counts, steps)
def test_the_cosine_schedule_falls_to_zero_and_never_rises(num_masked: int, num_steps: int) -> None:
    kept = cosine_keep_counts(num_masked, num_steps)
    assert len(kept) == num_steps
    assert kept[-1] == 0
    assert all(1 <= count <= num_masked for count in kept[:-1])
    assert kept == sorted(kept, reverse=True)


@given(st.integers(0, 5000), steps)
def test_even_counts_add_up_and_differ_by_one_at_most(num_masked: int, num_steps: int) -> None:
    decided = even_transfer_counts(num_masked, num_steps)
    assert (len(decided), sum(decided)) == (num_steps, num_masked)
    assert max(decided) - min(decided) <= 1
    assert decided == sorted(decided, reverse=True)
