"""Muon: momentum whose update of a weight matrix is made orthogonal, so that all directions learn at one pace.

Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with its five
Newton-Schulz steps. A convolution's weight counts as a matrix of one row an output channel.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; vectors and embeddings belong to AdamW."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Move every weight that has a gradient."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(weight)
                velocity = state["velocity"].mul_(group["momentum"]).add_(weight.grad)
                update = orthogonal((weight.grad + group["momentum"] * velocity).flatten(1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                weight.add_(update.view_as(weight), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, num_steps: int = 5) -> Tensor:
    """The nearest matrix with singular values near 1, by Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    result = matrix.T if is_tall else matrix
    result = result / (result.norm() + 1e-7)
    for _ in range(num_steps):
        square = result @ result.T
        result = a * result + (b * square + c * square @ square) @ result
    return result.T if is_tall else result


def optimizers(module: nn.Module, muon_lr: float, adam_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the module's matrices and kernels, AdamW for its vectors."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        Muon([parameter for parameter in trained if parameter.dim() >= 2], lr=muon_lr),
        torch.optim.AdamW([p for p in trained if p.dim() < 2], lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
