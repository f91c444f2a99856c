"""The tensors that a checkpoint's weight files must hold, and whether they do. Importable without torch."""

import math
from pathlib import Path

from dimoo_core.checkpoint.safetensors_file import StoredTensor, read_header
from dimoo_core.checkpoint.tensor_names import PREFIX, check_names
from dimoo_core.checkpoint_files import CODEC_CONFIG, CODEC_WEIGHTS, read_weight_map, weight_paths
from dimoo_core.config import ModelConfig
from dimoo_core.errors import WeightsError
from dimoo_core.vq_config import VQConfig, codec_shapes

_DTYPES = ("F32", "F16", "BF16")
_CODEC_DTYPES = ("F64", *_DTYPES)


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


def check_weights(directory: Path, config: ModelConfig) -> int:
    """Look at names and shapes of all tensors without reading them; returns how many numbers they hold.

    Raises:
        WeightsError: If a tensor is missing, unexpected, misshapen or of another type, or a file is damaged.
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


def check_codec(directory: Path) -> VQConfig:
    """Look at the config of a codec and at names, shapes and types of its weights; no weight is read.

    Args:
        directory: The ``vqvae/`` of a checkpoint.

    Raises:
        WeightsError: If a file is missing or damaged, or a tensor is missing, misshapen or one too many.
    """
    config, path = VQConfig.read(directory / CODEC_CONFIG), directory / CODEC_WEIGHTS
    stored = read_header(path, if_missing="the image codec has no weights")
    expected = codec_shapes(config)
    for name, shape in expected.items():
        if name not in stored:
            raise WeightsError(f"{path}: tensor {name} is missing, by the config beside it")
        if stored[name].shape != shape:
            raise WeightsError(f"{path}: tensor {name} must be {shape} by the config, got {stored[name].shape}")
        if stored[name].dtype not in _CODEC_DTYPES:
            raise WeightsError(f"{path}: tensor {name} must be F64, F32, F16 or BF16, got {stored[name].dtype}")
    if extra := sorted(stored.keys() - expected.keys()):
        raise WeightsError(f"{path}: tensor {extra[0]} is not one of this network's, nor {len(extra) - 1} more")
    return config
