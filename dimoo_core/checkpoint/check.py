"""Everything that can be known of a checkpoint without reading its weights: one check for every command.

A checkpoint that passes loads, unless its weights are not finite, which is known on reading. One that does not pass is
refused by the loader with the same message, since the loader asks here first. Needs no torch.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from dimoo_core.checkpoint.lora import check_adapter
from dimoo_core.checkpoint.tensors import PREFIX, StoredTensor, check_names, read_header
from dimoo_core.errors import WeightsError
from dimoo_core.files import CODEC_CONFIG, CODEC_WEIGHTS, check_files, read_weight_map, weight_paths
from dimoo_core.model_config import ModelConfig, VQConfig, codec_shapes, read_model_config
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.request.tokens import ImageOffsets, SpecialTokens, image_offsets, read_special_tokens
from dimoo_core.settings import PIXELS_PER_TOKEN

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
    """Look at names and shapes of all tensors without reading them; returns how many numbers they hold."""
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
    """Look at the config in a ``vqvae/`` and at names, shapes and types of its weights; no weight is read."""
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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CheckedCheckpoint:
    """The facts of a checkpoint, free of contradictions."""

    directory: Path
    config: ModelConfig
    codec: VQConfig
    tokenizer: Tokenizer
    tokens: SpecialTokens
    num_parameters: int  # of the transformer
    adapter: Path | None

    @property
    def offsets(self) -> ImageOffsets:
        """What was found of the id of VQ code 0."""
        return image_offsets(self.tokenizer, self.config, num_codes=self.codec.num_vq_embeddings)


def check_checkpoint(directory: Path, *, adapter: Path | None = None) -> CheckedCheckpoint:
    """Check a checkpoint and the adapter for it: files, configs, tokenizer, tensors by name and shape, special ids.

    Args:
        directory: Laid out as the published repository.
        adapter: Directory of a LoRA adapter to merge into the transformer.

    Raises:
        WeightsError: Something is missing, damaged, of another kind, or contradicts the rest.
    """
    check_files(directory)
    config = read_model_config(directory / "config.json")
    tokenizer = Tokenizer(directory)
    codec = check_codec(directory / "vqvae")
    if codec.pixels_per_code != PIXELS_PER_TOKEN:
        raise WeightsError(
            f"{directory / 'vqvae'}: one code must stand for {PIXELS_PER_TOKEN} pixels, got {codec.pixels_per_code}"
        )
    num_parameters = check_weights(directory, config)
    tokens = read_special_tokens(tokenizer, config, num_codes=codec.num_vq_embeddings)
    if adapter is not None:
        check_adapter(adapter, expected_shapes(config))
    return CheckedCheckpoint(
        directory=directory,
        config=config,
        codec=codec,
        tokenizer=tokenizer,
        tokens=tokens,
        num_parameters=num_parameters,
        adapter=adapter,
    )
