"""Matrices of 8-bit floats, half the size of bfloat16 and multiplied at twice its rate by GPUs that can.

A number has four bits of exponent and three of mantissa; each row of the matrix and each row of what it is multiplied
with has a scale of its own, which takes the row's largest magnitude to the largest such number. Sums are of float32 or
as the hardware adds them. Inputs are scaled as they come: nothing is calibrated.

Source: Micikevicius et al., "FP8 Formats for Deep Learning", 2022 (the format E4M3); the product is
``torch._scaled_mm``.
Dimensions: R rows, I inputs, O outputs.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dimoo_core.errors import ConfigError

FLOAT8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(FLOAT8).max
_SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # of a row of zeros
_MULTIPLE = 16  # of inputs and outputs, for the kernels
_LEAST_CAPABILITY = (8, 9)


@dataclass(frozen=True, slots=True, eq=False)
class Float8Weight:
    """A matrix for ``x @ weight.T``; ``weight[rows]`` is a part of it, not a copy."""

    values_OI: Tensor
    scales_O1: Tensor

    @classmethod
    def empty(cls, num_outputs: int, num_inputs: int, *, device: torch.device | str) -> "Float8Weight":
        """One to be filled by ``copy_``.

        Raises:
            ConfigError: If the GPU or the shape is not one that can be multiplied.
        """
        target = torch.device(device)
        if target.type == "cuda" and (capability := torch.cuda.get_device_capability(target)) < _LEAST_CAPABILITY:
            raise ConfigError(
                f"dtype float8 needs a GPU of compute capability 8.9 or newer (Ada, Hopper, Blackwell), this one has "
                f"{capability[0]}.{capability[1]}: use bfloat16"
            )
        if num_outputs % _MULTIPLE or num_inputs % _MULTIPLE:
            raise ConfigError(
                f"dtype float8 needs matrices whose sides are multiples of {_MULTIPLE}, the checkpoint has one of "
                f"{num_outputs}x{num_inputs}: use bfloat16"
            )
        return cls(
            torch.empty(num_outputs, num_inputs, device=target, dtype=FLOAT8),
            torch.empty(num_outputs, 1, device=target, dtype=torch.float32),
        )

    @classmethod
    def of(cls, weight_OI: Tensor) -> "Float8Weight":
        """A copy of a matrix, as ``copy_`` makes it."""
        weight = cls.empty(*weight_OI.shape, device=weight_OI.device)
        weight.copy_(weight_OI)
        return weight

    @property
    def shape(self) -> torch.Size:
        """(O, I)."""
        return self.values_OI.shape

    def __getitem__(self, rows: slice) -> "Float8Weight":
        return Float8Weight(self.values_OI[rows], self.scales_O1[rows])

    def copy_(self, weight_OI: Tensor) -> None:
        """Fill with a matrix of any floating-point type, rounded to the nearest."""
        values_OI, scales_O1 = _scaled(weight_OI.to(self.values_OI.device))
        self.values_OI.copy_(values_OI)
        self.scales_O1.copy_(scales_O1)

    def product(self, x_RI: Tensor) -> Tensor:
        """``x_RI @ weight.T`` in the type of ``x_RI``, which is rounded to 8 bits for it; (R, O)."""
        if not len(x_RI):
            return x_RI.new_empty(0, self.shape[0])
        values_RI, scales_R1 = _scaled(x_RI)
        return torch._scaled_mm(
            values_RI, self.values_OI.t(), scale_a=scales_R1, scale_b=self.scales_O1.t(), out_dtype=x_RI.dtype
        )


def _scaled(x_RI: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in 8 bits, and what each is to be multiplied with to be what it was.

    In as few passes as there can be: on a GPU they cost a product much of what it gains. A quotient exceeds the largest
    number by its last bit at most, which is rounded away.
    """
    scales_R1 = torch.linalg.vector_norm(x_RI, math.inf, dim=-1, keepdim=True).float()
    scales_R1.div_(_LARGEST).clamp_min_(_SMALLEST_SCALE)
    return (x_RI / scales_R1).to(FLOAT8), scales_R1
