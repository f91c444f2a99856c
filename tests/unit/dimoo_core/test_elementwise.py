"""Norms, rotations and gates computed by kernels of torch's compiler."""

import pytest
import torch

from dimoo_core.elementwise import compiled, gate, rms_norm, rotate
from dimoo_core.engine import Engine
from dimoo_core.engine_config import EngineConfig
from dimoo_core.errors import ConfigError
from dimoo_core.model import Model
from tests.support.engine_run import answer_of, ids_of, image_of, run_all

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")]


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
