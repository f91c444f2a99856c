"""The embedded transformer's weights while they are trained: one leaf for each tensor of a checkpoint.

The product's transformer keeps query, key and value in one weight, gate and up in another. An optimiser that
orthogonalises matrices must see them apart, so the fused ones are put together from leaves for each step.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.model.transformer import Observer, Transformer
from dimoo_core.model_config import ModelConfig
from dimoo_core.request.tokenizer import Tokenizer
from shapes.initial_weights import initial_weights

_PREFIX = "model.transformer."


class TrainableTransformer:
    """A transformer of the product's own class, run on leaves that are named as in a checkpoint."""

    def __init__(self, config: ModelConfig, leaves: dict[str, Tensor]) -> None:
        self.config = config
        self.leaves = leaves
        self.transformer = Transformer(config, device=next(iter(leaves.values())).device)

    @classmethod
    def new(
        cls, config: ModelConfig, tokenizer: Tokenizer, *, seed: int, device: torch.device
    ) -> "TrainableTransformer":
        """One that has learned nothing yet."""
        weights = initial_weights(config, tokenizer, seed=seed)
        return cls(config, {name: weight.to(device).requires_grad_() for name, weight in weights.items()})

    def replica(self) -> "TrainableTransformer":
        """The same leaves for use in another thread: a pass puts them into the module for as long as it lasts."""
        return TrainableTransformer(self.config, self.leaves)

    def hidden(self, batch: PackedBatch, observe: Observer | None = None) -> Tensor:
        """Final hidden states at the positions that are read, (R, E), with gradients to the leaves."""
        found: Tensor = torch.func.functional_call(self.transformer, self._parameters(), (batch, observe))
        return found

    def logits(self, hidden_RE: Tensor, columns: slice) -> Tensor:
        """Head outputs for some columns, (R, V)."""
        return hidden_RE @ self.leaves[f"{_PREFIX}ff_out.weight"][columns].T

    def load(self, leaves: dict[str, Tensor]) -> None:
        """Take over values."""
        with torch.no_grad():
            for name, leaf in self.leaves.items():
                leaf.copy_(leaves[name])

    def _parameters(self) -> dict[str, Tensor]:
        leaves = self.leaves
        parameters = {
            "embedding": leaves[f"{_PREFIX}wte.weight"],
            "final_norm.weight": leaves[f"{_PREFIX}ln_f.weight"],
            "head": leaves[f"{_PREFIX}ff_out.weight"],
        }
        for index in range(self.config.num_layers):
            block = f"{_PREFIX}blocks.{index}."

            def of(*names: str, block: str = block) -> Tensor:
                return torch.cat([leaves[f"{block}{name}.weight"] for name in names])

            parameters |= {
                f"blocks.{index}.attn_norm.weight": of("attn_norm"),
                f"blocks.{index}.ff_norm.weight": of("ff_norm"),
                f"blocks.{index}.qkv": of("q_proj", "k_proj", "v_proj"),
                f"blocks.{index}.attn_out": of("attn_out"),
                f"blocks.{index}.gate_up": of("ff_proj", "up_proj"),
                f"blocks.{index}.ff_out": of("ff_out"),
            }
        return parameters


def matrices(leaves: dict[str, Tensor]) -> list[Tensor]:
    """Leaves for an optimiser of matrices: the weights of the layers."""
    return [leaf for name, leaf in leaves.items() if leaf.ndim == 2 and ".blocks." in name]


def others(leaves: dict[str, Tensor]) -> list[Tensor]:
    """The rest: embedding, head and norms."""
    return [leaf for name, leaf in leaves.items() if leaf.ndim == 1 or ".blocks." not in name]


def save_checkpoint(
    directory: Path, config: ModelConfig, leaves: dict[str, Tensor], *, generation: dict[str, Any]
) -> None:
    """Write ``config.json``, the weights in bf16 and the generation defaults, laid out as the published checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    raw = {
        "architectures": ["LLaDAForMultiModalGeneration"],
        "model_type": "llada",
        "block_type": "llama",
        "activation_type": "silu",
        "layer_norm_type": "rms",
        "rope": True,
        "rope_full_precision": True,
        "include_bias": False,
        "weight_tying": False,
        "d_model": config.hidden_size,
        "n_heads": config.num_heads,
        "n_kv_heads": config.num_kv_heads,
        "n_layers": config.num_layers,
        "mlp_hidden_size": config.mlp_size,
        "vocab_size": config.num_embeddings,
        "embedding_size": config.num_embeddings,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.rms_norm_eps,
        "image_token_offset": config.image_token_offset,
        "torch_dtype": "bfloat16",
    }
    (directory / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    tensors = {name: leaf.detach().to("cpu", torch.bfloat16).contiguous() for name, leaf in leaves.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
