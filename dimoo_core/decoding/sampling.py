"""How many positions are committed at each step, and pure functions from logits to sampled ids and those positions.

Dimensions: M masked positions of one request, V vocabulary columns.
Source: ``generation_utils.py`` and the generators of the reference. All arithmetic is float32 for images and float64
for text, whatever the type of the weights; the reference samples images in the type of its weights.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise from uniform noise in [0, 1), finite at both ends."""
    return -torch.log(-torch.log(uniform + 1e-20) + 1e-20)


def gumbel_max_sample(logits_MV: Tensor, temperature: float, uniform_MV: Tensor | None) -> Tensor:
    """One column a row, drawn from ``softmax(logits / temperature)``; the argmax at temperature 0.

    Args:
        logits_MV: Any finite values.
        temperature: 0 or more.
        uniform_MV: Noise in [0, 1); not read at temperature 0.

    Returns:
        Column indices, (M,) int64.
    """
    if temperature == 0:
        return logits_MV.argmax(dim=-1)
    if uniform_MV is None:
        raise ValueError("sampling at a temperature above 0 needs noise")
    return (logits_MV / temperature + gumbel(uniform_MV)).argmax(dim=-1)


def probability_of(logits_MV: Tensor, sampled_M: Tensor) -> Tensor:
    """Softmax probability of the sampled column of each row, in the type of the logits."""
    return torch.softmax(logits_MV, dim=-1).gather(-1, sampled_M[:, None]).squeeze(-1)


def expected_log_probability(logits_MV: Tensor, temperature: float) -> Tensor:
    """Log-probability to be expected of the id that ``gumbel_max_sample`` draws at this temperature, (M,)."""
    log_p_MV = torch.log_softmax(logits_MV, dim=-1)
    if temperature == 0:
        return log_p_MV.amax(dim=-1)
    drawn_MV = log_p_MV.exp() if temperature == 1 else torch.softmax(logits_MV / temperature, dim=-1)
    return (drawn_MV * log_p_MV).sum(dim=-1)


def most_confident(probability_M: Tensor, count: int, temperature: float, uniform_M: Tensor) -> Tensor:
    """Ascending rows of the ``count`` most confident positions; confidence is that of ``stays_masked``."""
    return _noisy_confidence(probability_M, temperature, uniform_M).topk(count).indices.sort().values


def stays_masked(probability_M: Tensor, num_kept: int, temperature: float, uniform_M: Tensor) -> Tensor:
    """Which positions stay masked: the ``num_kept`` least confident, confidence being noisy at a temperature above 0.

    Equal confidences at the cut all leave the mask, so fewer than ``num_kept`` may stay.

    Returns:
        (M,) bool.
    """
    confidence_M = _noisy_confidence(probability_M, temperature, uniform_M)
    rank = min(max(num_kept, 0), len(probability_M) - 1)
    return confidence_M < torch.sort(confidence_M).values[rank]


def parted(positions_M: Tensor, stays_M: Tensor, fetch: Callable[[Tensor], int] = int) -> tuple[Tensor, Tensor]:
    """The positions that leave the mask and those that stay, each in their order.

    How many stay is known to the device alone, so it is waited for, once: by ``fetch``, which is given the number.
    """
    in_order_M = positions_M[stays_M.to(torch.uint8).argsort(stable=True)]
    num_leaving = len(positions_M) - fetch(stays_M.sum())
    return in_order_M[:num_leaving], in_order_M[num_leaving:]


def _noisy_confidence(probability_M: Tensor, temperature: float, uniform_M: Tensor) -> Tensor:
    return torch.log(probability_M.clamp_min(1e-20)) + temperature * gumbel(uniform_M)


def extent_of(values: Tensor) -> Tensor:
    """The largest magnitude, of shape (); not finite if any of the values is not."""
    lowest, highest = values.aminmax()
    return torch.maximum(highest, -lowest)


def entropy_of(logits_MV: Tensor) -> Tensor:
    """Entropy of each row's softmax in nats, (M,), in the type of the logits."""
    return -expected_log_probability(logits_MV, temperature=1.0)


def num_within_entropy(entropy_A: Tensor, confidence_A: Tensor, bound: float) -> int:
    """How many of the most confident positions may be decided together, at least one.

    As many as keep the sum of their entropies less the largest one, in nats, at most ``bound``: that is the most that
    committing them one by one could still yield about them.

    Source: entropy-bounded unmasking (Ben-Hamu et al. 2025, arXiv:2505.24857).
    """
    entropy_A = entropy_A.double()[confidence_A.argsort(descending=True, stable=True)]
    excess_A = entropy_A.cumsum(0) - entropy_A.cummax(0).values
    return int((excess_A <= bound).sum())


def noisy_text_scores(logits_MV: Tensor, temperature: float, uniform_MV: Tensor | None) -> Tensor:
    """Scores whose argmax samples a token in float64; the logits themselves at temperature 0.

    Source: ``add_gumbel_noise``; float64 after arXiv:2409.02908.
    """
    if temperature == 0:
        return logits_MV
    if uniform_MV is None:
        raise ValueError("sampling at a temperature above 0 needs noise")
    return logits_MV.double().exp() / (-torch.log(uniform_MV.double())) ** temperature


def cosine_keep_counts(num_masked: int, num_steps: int) -> list[int]:
    """Positions that stay masked after each step of an image, ``num_steps`` entries, the last one 0.

    Source: MaskGIT (Chang et al. 2022), eq. 3, as in ``cosine_schedule`` and ``generate_image`` of the reference:
    ``floor(float32(num_masked) * cos(pi/2 * (step + 1) / num_steps))`` in float32, at least 1 before the last step.
    """
    time = torch.tensor([(step + 1) / num_steps for step in range(num_steps - 1)], dtype=torch.float32)
    share = torch.cos(0.5 * math.pi * time)
    counts = (torch.tensor(num_masked, dtype=torch.float32) * share).floor().clamp_min(1)
    return [*(int(count) for count in counts.tolist()), 0]


def left_counts(keep_counts: list[int], num_masked: int) -> list[int]:
    """Positions that are masked after each step of an image if each decides at least one, as they do; 0 at the end."""
    counts, left = [], num_masked
    for keep_count in keep_counts:
        left = max(0, min(keep_count, left - 1))
        counts.append(left)
    return counts


def even_transfer_counts(num_masked: int, num_steps: int) -> list[int]:
    """Positions that each step of a text block decides: as even as possible, the larger ones first.

    Source: ``get_num_transfer_tokens`` of the reference's ``generation_utils.py``.
    """
    base, remainder = divmod(num_masked, num_steps)
    return [base + (step < remainder) for step in range(num_steps)]
