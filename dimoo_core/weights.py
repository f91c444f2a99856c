"""Filling a transformer from safetensors files, tensor by tensor, every name, shape and value checked.

Two tensors at a time are in host memory beyond what the page cache holds: as they lie in their file, or in float32
where an adapter is merged. Nothing in a checkpoint is executed: safetensors holds numbers only, pickle files are not
read.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from dimoo_core.adapter import Adapter, read_adapter
from dimoo_core.checkpoint_files import read_weight_map, weight_paths
from dimoo_core.config import ModelConfig
from dimoo_core.errors import WeightsError
from dimoo_core.float8_weight import Float8Weight
from dimoo_core.safetensors_file import StoredTensor, check_finite, read_ahead, read_header, read_tensors
from dimoo_core.tensor_names import PREFIX, check_names
from dimoo_core.transformer import Block, Transformer

_DTYPES = ("F32", "F16", "BF16")


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint of this architecture."""
    size, kv_size, mlp_size = config.hidden_size, config.kv_size, config.mlp_size
    shapes: dict[str, tuple[int, ...]] = {
        f"{PREFIX}wte.weight": (config.num_embeddings, size),
        f"{PREFIX}ln_f.weight": (size,),
        f"{PREFIX}ff_out.weight": (config.num_embeddings, size),
    }
    for index in range(config.num_layers):
        block = f"{PREFIX}blocks.{index}."
        shapes |= {
            f"{block}attn_norm.weight": (size,),
            f"{block}ff_norm.weight": (size,),
            f"{block}q_proj.weight": (size, size),
            f"{block}k_proj.weight": (kv_size, size),
            f"{block}v_proj.weight": (kv_size, size),
            f"{block}attn_out.weight": (size, size),
            f"{block}ff_proj.weight": (mlp_size, size),
            f"{block}up_proj.weight": (mlp_size, size),
            f"{block}ff_out.weight": (size, mlp_size),
        }
    return shapes


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

    Args:
        directory: The checkpoint's.
        config: Its architecture.
        device: Where the weights go.
        dtype: What they become.
        adapter: Directory of a LoRA adapter to merge into them.

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


def check_weights(directory: Path, config: ModelConfig) -> int:
    """Look at names and shapes of all tensors without reading them; returns how many numbers they hold.

    Raises:
        WeightsError: As ``load_transformer``, but for values that are not finite.
    """
    shapes = expected_shapes(config)
    files = {path: read_header(path, if_missing="the weights lie in it") for path in weight_paths(directory)}
    for name, file_name in read_weight_map(directory).items():
        if name not in files[directory / file_name]:
            raise WeightsError(
                f"{directory / file_name} does not hold {name}, which the index promises: copy both again"
            )
    check_names([name for header in files.values() for name in header], shapes.keys(), directory)
    for path, header in files.items():
        for name, stored in header.items():
            _check_stored(stored, shapes[name], f"{path}: {name}")
    return sum(math.prod(shape) for shape in shapes.values())


def _check_stored(stored: StoredTensor, shape: tuple[int, ...], where: str) -> None:
    if stored.shape != shape:
        raise WeightsError(f"{where} must have shape {shape} by the config, got {stored.shape}")
    if stored.dtype not in _DTYPES:
        fix = "give the weights before they were quantised or cast"
        raise WeightsError(f"{where} must be F32, F16 or BF16, got {stored.dtype}: {fix}")


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
