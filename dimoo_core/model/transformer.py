"""The bidirectional transformer of Lumina-DiMOO, over packed sequences; knows nothing of sampling.

Dimensions: T packed tokens, R packed positions that are read, E hidden size, H query heads, G key/value heads,
D width of a head, F width of the MLP, V columns of the head.

Source: ``LLaDAModel`` and ``LLaDALlamaBlock`` of the reference's ``modeling_llada.py``. Weights of one input are
fused (query, key and value; gate and up), rotary angles are gathered once per step, and the last layer computes
queries, attention output and MLP at the positions that are read only. Differences: docs/numerics.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimoo_core.model.attention import packed_attention
from dimoo_core.model.batch_invariance import FREE, InvariancePolicy, LinearShape, even_tiles, linear, silu
from dimoo_core.model.float8 import FLOAT8, Float8Weight
from dimoo_core.model.fused_ops import EAGER, Elementwise
from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """How to compute what is the same either way, but for last bits."""

    policy: InvariancePolicy
    elementwise: Elementwise


Observer = Callable[[int, Tensor], None]
"""Called with a layer's index and the residual stream after it, one row a position still computed."""


class RMSNorm(nn.Module):
    """The weights of a root-mean-square normalisation."""

    def __init__(self, size: int, eps: float, *, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype), requires_grad=False)

    def forward(self, x_TE: Tensor, elementwise: Elementwise = EAGER) -> Tensor:
        """Normalised rows, same shape and type."""
        return elementwise.rms_norm(x_TE, self.weight, self.eps)


class Rotary(nn.Module):
    """Rotary position embedding, split-half form, float32 angles and products."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.theta = config.rope_theta

    def tables(self, positions_T: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines, and sines whose first half is negated, each (T, 1, D) float32."""
        exponents = torch.arange(0, self.head_dim, 2, device=positions_T.device, dtype=torch.float32) / self.head_dim
        angles_T1D = (positions_T.float()[:, None] * (1.0 / (self.theta**exponents)))[:, None]
        cos_T1D, sin_T1D = angles_T1D.cos(), angles_T1D.sin()
        return torch.cat((cos_T1D, cos_T1D), dim=-1), torch.cat((-sin_T1D, sin_T1D), dim=-1)

    @staticmethod
    def rotate(x_THD: Tensor, tables: tuple[Tensor, Tensor], elementwise: Elementwise = EAGER) -> Tensor:
        """Heads rotated by their token's angles, in the input's type."""
        return elementwise.rotate(x_THD, *tables)


class Block(nn.Module):
    """One pre-norm layer: attention, then a gated MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig, *, device: torch.device | str, dtype: torch.dtype) -> None:
        super().__init__()

        def weight(num_outputs: int, num_inputs: int) -> nn.Parameter | Float8Weight:
            if dtype == FLOAT8:
                return Float8Weight.empty(num_outputs, num_inputs, device=device)
            return nn.Parameter(torch.empty(num_outputs, num_inputs, device=device, dtype=dtype), requires_grad=False)

        size = config.hidden_size
        dtype_of_norms = _type_beside(dtype)
        self.config = config
        self.attn_norm = RMSNorm(size, config.rms_norm_eps, device=device, dtype=dtype_of_norms)
        self.ff_norm = RMSNorm(size, config.rms_norm_eps, device=device, dtype=dtype_of_norms)
        self.qkv = weight(size + 2 * config.kv_size, size)
        self.attn_out = weight(size, size)
        self.gate_up = weight(2 * config.mlp_size, size)
        self.ff_out = weight(size, config.mlp_size)

    def forward(
        self,
        x_TE: Tensor,
        tables: tuple[Tensor, Tensor],
        batch: PackedBatch,
        layer: int,
        kernels: KernelOptions,
    ) -> Tensor:
        """The residual stream after this layer: (T, E), or (R, E) after the last."""
        policy = kernels.policy
        normed_TE = self.attn_norm(x_TE, kernels.elementwise)
        is_last = layer == self.config.num_layers - 1
        if is_last:
            q_THD, k_TGD, v_TGD = self._project_last(normed_TE, tables, batch.read_R, kernels)
            x_TE = x_TE[batch.read_R]
        else:
            q_THD, k_TGD, v_TGD = self._project(normed_TE, tables, kernels, batch.distinct if layer == 0 else None)
        attended: list[Tensor] = []
        for run in batch.runs:
            keys, values = run.exchange(layer, k_TGD, v_TGD)
            queries, layout = (run.reads, run.read_layout) if is_last else (run.tokens, run.layout)
            attended += packed_attention(q_THD[queries], keys, values, layout, policy)
        attended_THD = torch.cat(attended) if len(attended) > 1 else attended[0]
        x_TE = linear(attended_THD.flatten(-2), self.attn_out, policy).add_(x_TE)
        if not x_TE.is_cpu or x_TE.requires_grad:
            return self._mlp(x_TE, kernels).add_(x_TE)
        for tile in even_tiles(len(x_TE), self.gate_up.shape[0] * x_TE.element_size()):
            x_TE[tile] += self._mlp(x_TE[tile], kernels)
        return x_TE

    def _mlp(self, x_TE: Tensor, kernels: KernelOptions) -> Tensor:
        gate, up = linear(self.ff_norm(x_TE, kernels.elementwise), self.gate_up, kernels.policy).chunk(2, dim=-1)
        fused = kernels.elementwise.gate
        gated = silu(gate, kernels.policy).mul_(up) if fused is None else fused(gate, up)
        return linear(gated, self.ff_out, kernels.policy)

    def _project(
        self,
        normed_TE: Tensor,
        tables: tuple[Tensor, Tensor],
        kernels: KernelOptions,
        distinct: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys, and values; equal rows are multiplied once if it is known which are."""
        num_heads, num_kv_heads = self.config.num_heads, self.config.num_kv_heads
        if distinct is None:
            qkv = linear(normed_TE, self.qkv, kernels.policy)
        else:
            first_U, place_T = distinct
            qkv = linear(normed_TE[first_U], self.qkv, kernels.policy)[place_T]
        qkv = qkv.view(len(normed_TE), -1, self.config.head_dim)
        queries_and_keys, v_TGD = torch.split(qkv, [num_heads + num_kv_heads, num_kv_heads], dim=1)
        rotated = Rotary.rotate(queries_and_keys, tables, kernels.elementwise)
        q_THD, k_TGD = torch.split(rotated, [num_heads, num_kv_heads], dim=1)
        return q_THD, k_TGD, v_TGD

    def _project_last(
        self, normed_TE: Tensor, tables: tuple[Tensor, Tensor], read_R: Tensor, kernels: KernelOptions
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same with queries at the positions that are read only."""
        size, head_dim = self.config.hidden_size, self.config.head_dim
        q_RE = linear(normed_TE[read_R], self.qkv[:size], kernels.policy)
        kv = linear(normed_TE, self.qkv[size:], kernels.policy).view(len(normed_TE), -1, head_dim)
        k_TGD, v_TGD = kv.chunk(2, dim=1)
        query_tables = (tables[0][read_R], tables[1][read_R])
        q_RHD = Rotary.rotate(
            q_RE.view(len(read_R), self.config.num_heads, head_dim), query_tables, kernels.elementwise
        )
        return q_RHD, Rotary.rotate(k_TGD, tables, kernels.elementwise), v_TGD


class Transformer(nn.Module):
    """Embedding, layers, final norm and head. Weights are empty until ``checkpoint.weights`` or a test fills them.

    ``dtype`` ``FLOAT8`` is the type of the layers' matrices alone; everything else is bfloat16 then.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.config = config
        self.invariance_policy: InvariancePolicy = FREE
        self.elementwise: Elementwise = EAGER
        self.weight_dtype = dtype
        shape = (config.num_embeddings, config.hidden_size)
        beside = _type_beside(dtype)
        self.embedding = nn.Parameter(torch.empty(shape, device=device, dtype=beside), requires_grad=False)
        self.blocks = nn.ModuleList(Block(config, device=device, dtype=dtype) for _ in range(config.num_layers))
        self.rotary = Rotary(config)
        self.final_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, device=device, dtype=beside)
        self.head = nn.Parameter(torch.empty(shape, device=device, dtype=beside), requires_grad=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the residual stream, and of all weights but the layers' matrices if those are ``FLOAT8``."""
        return self.head.dtype

    def linear_shapes(self) -> list[LinearShape]:
        """Weights of every matrix product of a forward pass."""
        block = self.blocks[0]
        assert isinstance(block, Block)
        of_block = (block.qkv, block.attn_out, block.gate_up, block.ff_out)
        shapes = [LinearShape(weight.shape[1], weight.shape[0], self.weight_dtype) for weight in of_block]
        return [*shapes, LinearShape(self.head.shape[1], self.head.shape[0], self.dtype)]

    def forward(self, batch: PackedBatch, observe: Observer | None = None) -> Tensor:
        """Final-norm hidden states at the positions that are read, (R, E)."""
        x_TE = F.embedding(batch.ids_T, self.embedding)
        tables = self.rotary.tables(batch.positions_T)
        kernels = KernelOptions(self.invariance_policy, self.elementwise)
        for index, block in enumerate(self.blocks):
            x_TE = block(x_TE, tables, batch, index, kernels)
            if observe is not None:
                observe(index, x_TE)
        normed_RE: Tensor = self.final_norm(x_TE, self.elementwise)
        return normed_RE

    def logits(self, hidden_RE: Tensor, columns: slice) -> Tensor:
        """Head outputs of the given vocabulary columns, (R, V) float32."""
        return linear(hidden_RE, self.head[columns], self.invariance_policy).float()


def _type_beside(dtype: torch.dtype) -> torch.dtype:
    """The type of what is no matrix of a layer, if those are of ``dtype``."""
    return torch.bfloat16 if dtype == FLOAT8 else dtype
