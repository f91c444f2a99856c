"""Filling a transformer and an image codec from safetensors files: every name, shape and value is checked.

Two tensors at a time are in host memory beyond what the page cache holds: as they are in their file, or in float32
where an adapter is merged. Nothing in a checkpoint is executed: safetensors holds numbers only, pickle files are not
read.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dimoo_core.checkpoint.check import check_codec, check_weights, expected_shapes
from dimoo_core.checkpoint.lora import Adapter, read_adapter
from dimoo_core.checkpoint.tensor_reader import check_finite, read_ahead, read_tensors
from dimoo_core.checkpoint.tensors import PREFIX
from dimoo_core.codec.codec import ImageCodec
from dimoo_core.codec.vqgan import VQModel
from dimoo_core.files import CODEC_WEIGHTS, weight_paths
from dimoo_core.model.float8 import Float8Weight
from dimoo_core.model.transformer import Block, Transformer
from dimoo_core.model_config import ModelConfig


def load_transformer(
    directory: Path,
    config: ModelConfig,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    adapter: Path | None = None,
) -> Transformer:
    """Allocate a transformer on ``device`` and fill it from the checkpoint in ``directory``.

    Each tensor is read and looked at while the one before is copied, so that looking costs next to no time where a
    second core is free.

    Raises:
        WeightsError: If a tensor is missing, unexpected, misshapen, not floating point or not finite, also after an
            adapter is merged or the type is changed, or a file is damaged.
    """
    check_weights(directory, config)
    lora = read_adapter(adapter, expected_shapes(config)) if adapter is not None else None
    transformer = Transformer(config, device=device, dtype=dtype)
    targets = _targets(transformer)
    for name, tensor in read_ahead(_finite_tensors(weight_paths(directory), targets, lora)):
        targets[name].copy_(tensor)
    return transformer


def load_codec(directory: Path, *, device: torch.device | str, max_batch: int = 1) -> ImageCodec:
    """The image codec of the checkpoint in ``directory``, from its ``vqvae/``."""
    return ImageCodec(load_vq_model(directory / "vqvae", device=device), max_batch=max_batch)


def load_vq_model(directory: Path, *, device: torch.device | str) -> VQModel:
    """Load ``config.json`` and the weights beside it, as float32."""
    config, path = check_codec(directory), directory / CODEC_WEIGHTS
    on_device: dict[str, Tensor] = {}
    for name, weight in read_tensors(path):
        check_finite(weight, f"{path}: {name}", torch.float32)
        on_device[name] = weight.to(device, torch.float32, copy=True)
    with torch.device("meta"):
        model = VQModel(config)
    model.load_state_dict(on_device, assign=True)
    return model.eval().requires_grad_(False)


def _finite_tensors(
    paths: Iterable[Path], targets: Mapping[str, Tensor | Float8Weight], lora: Adapter | None
) -> Iterator[tuple[str, Tensor]]:
    """Each tensor by name, with what an adapter adds to it."""
    for path in paths:
        for name, tensor in read_tensors(path):
            target = targets[name]
            dtype = target.dtype if isinstance(target, Tensor) else None  # 8-bit floats are scaled to fit
            if lora is None or name not in lora.pairs:
                check_finite(tensor, f"{path}: {name}", dtype)
                yield name, tensor
                continue
            check_finite(tensor, f"{path}: {name}")
            merged = lora.merged(name, tensor)
            check_finite(merged, f"{lora.directory}: {name} with this adapter merged", dtype)
            yield name, merged


def _targets(transformer: Transformer) -> dict[str, Tensor | Float8Weight]:
    """Where each tensor goes; fused weights are filled part by part."""
    config = transformer.config
    targets: dict[str, Tensor | Float8Weight] = {
        f"{PREFIX}wte.weight": transformer.embedding.data,
        f"{PREFIX}ln_f.weight": transformer.final_norm.weight.data,
        f"{PREFIX}ff_out.weight": transformer.head.data,
    }
    for index, block in enumerate(transformer.blocks):
        assert isinstance(block, Block)
        first_key, first_value = config.hidden_size, config.hidden_size + config.kv_size
        parts: dict[str, Tensor | Float8Weight] = {
            "attn_norm": block.attn_norm.weight.data,
            "ff_norm": block.ff_norm.weight.data,
            "q_proj": block.qkv[:first_key],
            "k_proj": block.qkv[first_key:first_value],
            "v_proj": block.qkv[first_value:],
            "attn_out": block.attn_out,
            "ff_proj": block.gate_up[: config.mlp_size],
            "up_proj": block.gate_up[config.mlp_size :],
            "ff_out": block.ff_out,
        }
        targets |= {f"{PREFIX}blocks.{index}.{name}.weight": tensor for name, tensor in parts.items()}
    return targets
