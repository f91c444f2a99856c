"""What a layer computes number by number, between its matrix products: norm, rotation and gate.

Written in torch's operations it is a dozen kernels, each of which reads and writes everything, which on a GPU costs a
layer up to a third of its time. ``compiled`` is the same with each made one kernel by torch's compiler, which rounds
where the operations round.

Dimensions: T tokens, E hidden size, H heads, D width of a head, F width of the MLP.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dimoo_core.errors import ConfigError


def rms_norm(x_TE: Tensor, weight_E: Tensor, eps: float) -> Tensor:
    """Root-mean-square normalisation in float32, scaled in the input's type."""
    x_f32 = x_TE.float()
    scale_T1 = torch.rsqrt(x_f32.pow(2).mean(-1, keepdim=True) + eps)
    return weight_E * (x_f32 * scale_T1).to(x_TE.dtype)


def rotate(x_THD: Tensor, cos_T1D: Tensor, signed_sin_T1D: Tensor) -> Tensor:
    """Heads rotated by their token's angles, split-half form, float32 products, in the input's type."""
    x_f32 = x_THD.float()
    first, second = x_f32.chunk(2, dim=-1)
    swapped_THD = torch.cat((second, first), dim=-1)
    return swapped_THD.mul_(signed_sin_T1D).add_(x_f32 * cos_T1D).to(x_THD.dtype)


def gate(gate_TF: Tensor, up_TF: Tensor) -> Tensor:
    """``silu(gate) * up``."""
    return F.silu(gate_TF).mul_(up_TF)


@dataclass(frozen=True, slots=True)
class Elementwise:
    """One way to compute them. ``gate`` is None where the invariance policy decides."""

    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    rotate: Callable[[Tensor, Tensor, Tensor], Tensor]
    gate: Callable[[Tensor, Tensor], Tensor] | None


EAGER = Elementwise(rms_norm, rotate, None)
"""Operation by operation."""


@cache
def compiled() -> Elementwise:
    """One kernel each, compiled when it is first called, for any number of tokens.

    Raises:
        ConfigError: There is no compiler here.
    """
    _check_compiler()
    return Elementwise(_compiled(rms_norm), _compiled(rotate), _compiled(gate))


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """One kernel for any number of tokens; widths and other numbers are written into it.

    With ``dynamic=True`` the norm's epsilon would be a float64 in the host's memory that each call reads.
    """
    kernel = torch.compile(function, fullgraph=True, options={"emulate_precision_casts": True})

    def call(*arguments: Any) -> Any:
        for argument in arguments:
            if isinstance(argument, Tensor) and argument.dim() > 1:
                torch._dynamo.maybe_mark_dynamic(argument, 0)
        return kernel(*arguments)

    return call


def _check_compiler() -> None:
    if torch.cuda.is_available():
        from torch.utils._triton import has_triton

        if not has_triton():
            raise ConfigError("engine.compile needs triton, which is not installed here: install it, or leave it off")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigError("engine.compile needs a C++ compiler on a CPU: install g++, or leave it off") from error
