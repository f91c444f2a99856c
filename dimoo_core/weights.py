"""Filling a transformer from safetensors files, tensor by tensor, every name and shape checked.

Only one tensor at a time is in host memory beyond what the page cache holds. Nothing in a checkpoint is executed:
safetensors holds numbers only, pickle files are not read.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dimoo_core.adapter import read_adapter
from dimoo_core.config import ModelConfig
from dimoo_core.errors import WeightsError
from dimoo_core.float8_weight import Float8Weight
from dimoo_core.transformer import Block, Transformer

_PREFIX = "model.transformer."


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint of this architecture."""
    size, kv_size, mlp_size = config.hidden_size, config.kv_size, config.mlp_size
    shapes: dict[str, tuple[int, ...]] = {
        f"{_PREFIX}wte.weight": (config.num_embeddings, size),
        f"{_PREFIX}ln_f.weight": (size,),
        f"{_PREFIX}ff_out.weight": (config.num_embeddings, size),
    }
    for index in range(config.num_layers):
        block = f"{_PREFIX}blocks.{index}."
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

    Args:
        directory: The checkpoint's.
        config: Its architecture.
        device: Where the weights go.
        dtype: What they become.
        adapter: Directory of a LoRA adapter to merge into them.

    Raises:
        WeightsError: If a tensor is missing, unexpected, misshapen or not floating point, or a file is damaged.
    """
    files = weight_files(directory)
    _check_names(files, expected_shapes(config), directory)
    _check_shapes(files, expected_shapes(config))
    lora = read_adapter(adapter, expected_shapes(config)) if adapter is not None else None
    transformer = Transformer(config, device=device, dtype=dtype)
    targets = _targets(transformer)
    for name, tensor in _read_tensors(files):
        targets[name].copy_(tensor if lora is None else lora.merged(name, tensor))
    return transformer


def check_weights(directory: Path, config: ModelConfig) -> int:
    """Look at names and shapes of all tensors without reading them; returns how many numbers they hold.

    Raises:
        WeightsError: As ``load_transformer``.
    """
    files, shapes = weight_files(directory), expected_shapes(config)
    _check_names(files, shapes, directory)
    _check_shapes(files, shapes)
    return sum(math.prod(shape) for shape in shapes.values())


def weight_files(directory: Path) -> dict[Path, list[str]]:
    """The checkpoint's safetensors files and the tensor names each one holds.

    Raises:
        WeightsError: If there is neither an index nor a single file, a listed shard is missing, or a shard does not
            hold the tensors that the index promises.
    """
    index_path = directory / "model.safetensors.index.json"
    single_path = directory / "model.safetensors"
    if index_path.exists():
        weight_map = _read_weight_map(index_path)
        paths = [directory / file_name for file_name in sorted(set(weight_map.values()))]
        if outside := [path for path in paths if path.parent != directory]:
            raise WeightsError(f"{index_path} names a file outside its directory: {outside[0].name}")
        if absent := [path.name for path in paths if not path.exists()]:
            raise WeightsError(f"{directory} lacks weight files that its index lists: {', '.join(absent)}")
        files = {path: _tensor_names(path) for path in paths}
        held = {name: path.name for path, names in files.items() for name in names}
        if wrong := [name for name, file_name in weight_map.items() if held.get(name) != file_name]:
            raise WeightsError(f"{weight_map[wrong[0]]} does not hold {wrong[0]}, which {index_path.name} promises")
        return files
    if single_path.exists():
        return {single_path: _tensor_names(single_path)}
    raise WeightsError(f"{directory} holds no weights: neither model.safetensors nor model.safetensors.index.json")


def _read_weight_map(index_path: Path) -> dict[str, str]:
    """File name of each tensor."""
    try:
        weight_map = json.loads(index_path.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file_name) for name, file_name in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index_path} is damaged: no readable weight_map") from error


def _tensor_names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error


def _check_names(files: dict[Path, list[str]], shapes: dict[str, tuple[int, ...]], directory: Path) -> None:
    held = [name for names in files.values() for name in names]
    if repeated := sorted({name for name in held if held.count(name) > 1} if len(held) != len(set(held)) else ()):
        raise WeightsError(f"{directory} holds a tensor twice: {_some(repeated)}")
    if missing := sorted(shapes.keys() - set(held)):
        raise WeightsError(f"{directory} lacks {len(missing)} tensors: {_some(missing)}")
    if extra := sorted(set(held) - shapes.keys()):
        raise WeightsError(f"{directory} holds {len(extra)} tensors that its config does not explain: {_some(extra)}")


def _check_shapes(files: dict[Path, list[str]], shapes: dict[str, tuple[int, ...]]) -> None:
    for path, names in files.items():
        with safe_open(path, framework="pt") as file:
            for name in names:
                view = file.get_slice(name)
                shape = tuple(view.get_shape())
                if shape != shapes[name]:
                    raise WeightsError(f"{path}: {name} must have shape {shapes[name]}, got {shape}")
                if view.get_dtype() not in ("F32", "F16", "BF16"):
                    raise WeightsError(f"{path}: {name} must be F32, F16 or BF16, got {view.get_dtype()}")


def _read_tensors(files: dict[Path, list[str]]) -> Iterator[tuple[str, Tensor]]:
    for path, names in files.items():
        with safe_open(path, framework="pt") as file:
            for name in names:
                yield name, file.get_tensor(name)


def _targets(transformer: Transformer) -> dict[str, Tensor | Float8Weight]:
    """Where each tensor goes; fused weights are filled part by part."""
    config = transformer.config
    targets: dict[str, Tensor | Float8Weight] = {
        f"{_PREFIX}wte.weight": transformer.embedding.data,
        f"{_PREFIX}ln_f.weight": transformer.final_norm.weight.data,
        f"{_PREFIX}ff_out.weight": transformer.head.data,
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
        targets |= {f"{_PREFIX}blocks.{index}.{name}.weight": tensor for name, tensor in parts.items()}
    return targets


def _some(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names) - limit} more)"
