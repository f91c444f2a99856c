"""How many positions are decided at each step."""

import math

import torch


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
