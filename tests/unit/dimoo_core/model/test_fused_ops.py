"""Norms, rotations and gates computed by kernels of torch's compiler."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import ConfigError
from dimoo_core.model.fused_ops import compiled, gate, rms_norm, rotate
from dimoo_core.settings import EngineConfig
from tests.support.engine_run import answer_of, ids_of, image_of, run_all

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")


@pytest.mark.soak
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_compiled_kernels_compute_what_the_operations_do_for_any_number_of_tokens(dtype: torch.dtype) -> None:
    kernels = compiled()
    assert kernels.gate is not None
    with torch.inference_mode():
        for num_tokens in (1, 5, 64, 301):
            x, up = torch.randn(2, num_tokens, 192).to(dtype)
            weight = torch.randn(192).to(dtype)
            torch.testing.assert_close(kernels.rms_norm(x, weight, 1e-5), rms_norm(x, weight, 1e-5))
            torch.testing.assert_close(kernels.gate(x, up), gate(x, up))
            heads, angles = x.view(num_tokens, 6, 32), torch.rand(num_tokens, 1, 32)
            rotated = kernels.rotate(heads, angles.cos(), angles.sin())
            torch.testing.assert_close(rotated, rotate(heads, angles.cos(), angles.sin()))


@pytest.mark.soak
def test_an_engine_with_compiled_kernels_makes_the_same_tokens(tiny_model: Model) -> None:
    requests = [image_of(tiny_model, "image"), answer_of(tiny_model, "answer")]
    compiled_results = run_all(Engine(tiny_model.transformer, tiny_model.tokens, EngineConfig(compile=True)), requests)
    results = run_all(Engine(tiny_model.transformer, tiny_model.tokens), requests)
    assert {name: ids_of(result) for name, result in compiled_results.items()} == {
        name: ids_of(result) for name, result in results.items()
    }


def test_rows_that_are_equal_in_every_batch_are_not_promised_with_them() -> None:
    with pytest.raises(ConfigError, match=r"engine\.compile and engine\.batch_invariance=on exclude each other"):
        EngineConfig(compile=True, batch_invariance="on")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[Any]]]:
    """What each kernel that is compiled takes; nothing is compiled, the operations are run."""
    taken: list[list[Any]] = []
    compile_with = torch.compile

    def traced(function: Any, **options: Any) -> Any:
        def take(graph: torch.fx.GraphModule, arguments: list[Any]) -> Any:
            taken.append(arguments)
            return graph.forward

        options.pop("options")
        return compile_with(function, backend=take, **options)

    torch._dynamo.reset()
    compiled.cache_clear()
    monkeypatch.setattr(torch, "compile", traced)
    yield taken
    compiled.cache_clear()
    torch._dynamo.reset()


def test_kernels_are_compiled_a_few_times_and_read_nothing_from_the_host(graphs: list[list[Any]]) -> None:
    kernels = compiled()
    assert kernels.gate is not None
    counts = []
    with torch.inference_mode():
        weight = torch.nn.Parameter(torch.ones(96), requires_grad=False)
        for num_tokens in (64, 6, 1, 5, 12, 96, 301):
            angles = torch.ones(num_tokens, 1, 16)
            kernels.rms_norm(torch.ones(num_tokens, 96), weight, 1e-5)
            kernels.gate(*torch.ones(num_tokens, 64).chunk(2, dim=-1))
            queries_and_keys, _ = torch.ones(num_tokens, 18, 16).split([12, 6], dim=1)
            last_keys, _ = torch.ones(num_tokens, 12, 16).chunk(2, dim=1)
            for heads in (queries_and_keys, torch.ones(num_tokens, 6, 16), last_keys):
                kernels.rotate(heads, angles, angles)
            counts.append(len(graphs))
    assert counts[1] == counts[0], "another number of tokens takes no other kernel"
    assert counts[-1] == counts[2], "but a single one does"
    assert counts[-1] <= 10
    tensors = [argument for arguments in graphs for argument in arguments if isinstance(argument, Tensor)]
    assert all(tensor.dim() for tensor in tensors), "a number without a device is read from the host at each call"
