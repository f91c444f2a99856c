"""CUDA's branches without a GPU: fake tensors have a device, a type, a shape and strides, and nothing else.

Operations on them check what the real ones do before they compute: that everything is on one device, that shapes fit,
and what the 8-bit product asks of its operands.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from benchmarks.case import caption_case, image_case
from benchmarks.shape import TINY
from dimoo_core.decoding.base import Decoding
from dimoo_core.decoding.image import ImageDecoding
from dimoo_core.decoding.text import TextDecoding
from dimoo_core.engine.kv_cache import ScopedCache
from dimoo_core.engine.memory import profile_step
from dimoo_core.model.batch_invariance import probe_invariance_policy
from dimoo_core.model.float8 import FLOAT8
from dimoo_core.model.kv_pool import KVAllocator
from dimoo_core.model.packed_batch import SequenceView, pack, read_everything
from dimoo_core.model.transformer import Transformer
from dimoo_core.presets import PRESETS

CUDA = torch.device("cuda", 0)
VarlenCalls = list[tuple[int, int]]
"""Numbers of queries and of keys of each call."""


@pytest.fixture
def varlen_calls(monkeypatch: pytest.MonkeyPatch) -> VarlenCalls:
    """Calls of the variable-length kernel, each checked for what ``flash_api.cpp`` of torch 2.11 asks.

    Its signature is that of torch 2.11, which knows neither ranges of keys nor grouped heads.
    """
    calls: VarlenCalls = []

    def varlen_attn(
        query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, cu_seq_k: Tensor, max_q: int, max_k: int
    ) -> Tensor:
        assert query.dtype == key.dtype == value.dtype == torch.bfloat16
        assert query.device == key.device == value.device == cu_seq_q.device == cu_seq_k.device == CUDA
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        assert query.shape[1:] == key.shape[1:]
        assert key.shape == value.shape
        assert query.shape[2] % 8 == 0
        assert query.shape[2] <= 256
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert cu_seq_q.is_contiguous()
        assert cu_seq_k.is_contiguous()
        assert cu_seq_q.shape == cu_seq_k.shape
        assert type(max_q) is type(max_k) is int
        assert 0 < max_q <= len(query)
        assert 0 < max_k <= len(key)
        calls.append((len(query), len(key)))
        return torch.empty_like(query)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    return calls


class WithoutCuda(TorchFunctionMode):
    """What a torch without CUDA refuses to do for a fake tensor that says it is there, by operations that it does.

    Indexing, and copying a tensor of one number whose value is known.
    """

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is Tensor.__getitem__:
            return _indexed(*arguments)
        if function is Tensor.__setitem__:
            tensor, index, value = arguments
            if isinstance(index, Tensor):
                return torch.ops.aten.index_put_(tensor, [index], value)
            return torch.ops.aten.copy_(_indexed(tensor, index), value)
        if function is torch.tensor:
            return torch.zeros(len(arguments[0]), dtype=options["dtype"])
        return function(*arguments, **(options or {}))


def _indexed(tensor: Tensor, index: Any) -> Tensor:
    if isinstance(index, Tensor):
        return torch.ops.aten.index(tensor, [index])
    dim = 0
    for part in index if isinstance(index, tuple) else (index,):
        if part is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(part, int):
            tensor = tensor.select(dim, part)
            continue
        else:
            tensor = torch.ops.aten.slice(tensor, dim, part.start, part.stop)
        dim += 1
    return tensor


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Which ids are equal is all that a forward pass has to know of what is in its tensors."""

    def distinct(ids_T: Tensor) -> tuple[Tensor, Tensor]:
        place_T = torch.zeros_like(ids_T)
        return place_T[: max(1, len(ids_T) // 2)], place_T

    monkeypatch.setattr("dimoo_core.model.packed_batch.distinct_tokens", distinct)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    with FakeTensorMode(), WithoutCuda():
        yield


@pytest.mark.parametrize("num_tokens", [1, 50, 5000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, FLOAT8], ids=["bfloat16", "float8"])
@pytest.mark.usefixtures("fake_cuda")
def test_a_step_is_profiled_on_cuda(dtype: torch.dtype, num_tokens: int, varlen_calls: VarlenCalls) -> None:
    transformer = Transformer(TINY.config, device=CUDA, dtype=dtype)
    profile_step(transformer, TINY.tokens, num_tokens)
    assert varlen_calls == [(num_tokens, num_tokens)] * TINY.config.num_layers


@pytest.mark.usefixtures("fake_cuda")
def test_rows_that_are_equal_in_every_batch_need_no_argument_that_torch_2_11_has_not(varlen_calls: VarlenCalls) -> None:
    transformer = Transformer(TINY.config, device=CUDA, dtype=torch.bfloat16)
    transformer.invariance_policy = probe_invariance_policy(transformer.linear_shapes(), CUDA)
    assert transformer.invariance_policy.tile_rows is not None
    profile_step(transformer, TINY.tokens, 300)
    assert varlen_calls == [(300, 300)] * TINY.config.num_layers


@pytest.mark.parametrize("unit", ["image", "caption"])
def test_a_cache_is_made_for_a_request_on_the_host_and_its_target_on_the_device(unit: str) -> None:
    preset = PRESETS["fast"]
    case = image_case(TINY, (64, 32), 4, 1, preset) if unit == "image" else caption_case(TINY, 32, 1, preset)
    (request,) = case.build(case.num_steps, torch.device("cpu"))
    kind = ImageDecoding if unit == "image" else TextDecoding
    decoding: Decoding = kind(request, TINY.tokens, torch.device("cpu"))
    expected = ScopedCache(decoding, KVAllocator(TINY.config, device=torch.device("cpu"), dtype=torch.bfloat16))
    with FakeTensorMode(allow_non_fake_inputs=True):
        decoding.target = torch.zeros(len(request.target), dtype=torch.int64, device=CUDA)
        cache = ScopedCache(decoding, KVAllocator(TINY.config, device=CUDA, dtype=torch.bfloat16))
        assert cache.num_bytes() == expected.num_bytes() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, FLOAT8], ids=["bfloat16", "float8"])
@pytest.mark.usefixtures("fake_cuda")
def test_sequences_with_and_without_kept_keys_are_one_pass_on_cuda(
    dtype: torch.dtype, varlen_calls: VarlenCalls
) -> None:
    transformer = Transformer(TINY.config, device=CUDA, dtype=dtype)
    blocks = KVAllocator(TINY.config, device=CUDA, dtype=transformer.dtype, pool_tokens=64)
    first, second = blocks.block(20), blocks.block(30)

    def some(count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.int64, device=CUDA)

    views = [
        read_everything(some(7)),
        SequenceView(some(20), some(3), None, first),
        SequenceView(some(5), some(2), some(5), second),
    ]
    with torch.inference_mode():
        hidden = transformer(pack(views, CUDA))
        logits = transformer.logits(hidden, TINY.tokens.image_columns)
    assert (hidden.device, hidden.dtype, hidden.shape) == (CUDA, torch.bfloat16, (12, TINY.config.hidden_size))
    assert (logits.dtype, logits.shape) == (torch.float32, (12, TINY.tokens.num_codes))
    inner, last = [(7, 7), (25, 50)], [(7, 7), (5, 50)]
    assert varlen_calls == [*inner * (TINY.config.num_layers - 1), *last]
