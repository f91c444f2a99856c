"""How many bytes running requests may keep between steps, asked of the machine when an engine starts."""

import torch

from dimoo_core.memory.check import free_bytes
from dimoo_core.model.packed_batch import pack, read_everything
from dimoo_core.model.transformer import Transformer
from dimoo_core.request.tokens import SpecialTokens

_HOST_SHARE = 0.25  # of what is available: several workers may share a host, and pixels need room too
_DEVICE_SHARE = 0.9  # of what a step leaves: an allocator cannot use every last byte
_PROFILED_LENGTH = 4096  # tokens of a sequence: an image of 1024x1024
_LOGITS_COPIES = 4  # of every sequence's logits: guidance, noise and sampling hold as many at a time


def cache_budget(transformer: Transformer, tokens: SpecialTokens, max_step_tokens: int) -> int:
    """Bytes for keys, values and logits of all running requests together.

    On CUDA, what a forward pass of ``max_step_tokens`` leaves free, measured by running one; elsewhere a quarter of
    the memory that is free for this process, by the machine's and its container's limits.
    """
    if transformer.device.type == "cuda":
        return _beside_a_step(transformer, tokens, max_step_tokens)
    return int(free_bytes() * _HOST_SHARE)


def _beside_a_step(transformer: Transformer, tokens: SpecialTokens, num_tokens: int) -> int:
    device = transformer.device
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    allocated = torch.cuda.memory_allocated(device)
    try:
        profile_step(transformer, tokens, num_tokens)
    except torch.OutOfMemoryError:
        return 0  # not even a step fits: the engine will find out how small its steps have to be
    needed = torch.cuda.max_memory_allocated(device) - allocated
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return max(0, int((free - needed) * _DEVICE_SHARE))


@torch.inference_mode()
def profile_step(transformer: Transformer, tokens: SpecialTokens, num_tokens: int) -> None:
    """One forward pass of so many tokens with everything read, and as many logits as sampling an image holds."""
    lengths = [_PROFILED_LENGTH] * (num_tokens // _PROFILED_LENGTH)
    if rest := num_tokens % _PROFILED_LENGTH:
        lengths.append(rest)
    device = transformer.device
    # As many ids as can be: the first layer projects equal ones once.
    views = [read_everything(torch.arange(length, device=device) % tokens.mask) for length in lengths]
    logits_TV = transformer.logits(transformer(pack(views, device)), tokens.image_columns)
    held = [logits_TV, *(logits_TV.clone() for _ in range(_LOGITS_COPIES - 1))]
    del held
