"""The variable-length attention kernel against one SDPA call a stream."""

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from dimoo_core.model.attention import PackedLayout, packed_attention
from dimoo_core.model.batch_invariance import FREE
from dimoo_core.model_config import ModelConfig

_CALLS_A_REPEAT = 10


@torch.inference_mode()
def time_attention(
    config: ModelConfig, lengths: list[int], device: torch.device, num_repeats: int
) -> dict[str, object] | None:
    """Seconds of one layer's attention over streams of these lengths, both ways by turns.

    Returns:
        None on devices without the kernel, where SDPA a stream is the engine's own way.
    """
    if device.type != "cuda":
        return None
    layout = PackedLayout.of_lengths(lengths, lengths)
    shape = (sum(lengths), config.num_heads, config.head_dim)
    generator = torch.Generator(device).manual_seed(0)
    q, k, v = (torch.randn(shape, generator=generator, device=device, dtype=torch.bfloat16) for _ in range(3))

    def varlen() -> None:
        packed_attention(q, k, v, layout, FREE)

    def stream_by_stream() -> None:
        for start, end in pairwise(layout.key_offsets):
            _sdpa(q[start:end], k[start:end], v[start:end])

    varlen_s, sdpa_s = [], []
    for _ in range(num_repeats + 1):
        varlen_s.append(_seconds_a_call(varlen, device))
        sdpa_s.append(_seconds_a_call(stream_by_stream, device))
    varlen_s, sdpa_s = varlen_s[1:], sdpa_s[1:]  # the first was the warm-up
    return {
        "stream_lengths": lengths,
        "varlen_s": varlen_s,
        "sdpa_s": sdpa_s,
        "speedup": median(sdpa / varlen for sdpa, varlen in zip(sdpa_s, varlen_s, strict=True)),
    }


def _sdpa(q_THD: Tensor, k_THD: Tensor, v_THD: Tensor) -> Tensor:
    q_1HTD, k_1HTD, v_1HTD = (x.transpose(0, 1).unsqueeze(0) for x in (q_THD, k_THD, v_THD))
    return torch.nn.functional.scaled_dot_product_attention(q_1HTD, k_1HTD, v_1HTD)


def _seconds_a_call(call: Callable[[], None], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    started_s = time.perf_counter()
    for _ in range(_CALLS_A_REPEAT):
        call()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - started_s) / _CALLS_A_REPEAT
