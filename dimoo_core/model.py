"""A whole checkpoint, loaded: transformer, image codec, tokenizer and special ids that belong together."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dimoo_core.checkpoint_files import check_files
from dimoo_core.config import ModelConfig, read_model_config
from dimoo_core.errors import ConfigError, WeightsError
from dimoo_core.float8_weight import FLOAT8
from dimoo_core.image_codec import ImageCodec
from dimoo_core.layout import RequestLayout
from dimoo_core.settings import PIXELS_PER_TOKEN, DtypeName
from dimoo_core.tokenizer import Tokenizer
from dimoo_core.tokens import SpecialTokens, read_special_tokens
from dimoo_core.transformer import Transformer
from dimoo_core.weights import load_transformer


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Everything that a request needs, on one device."""

    config: ModelConfig
    tokens: SpecialTokens
    transformer: Transformer
    codec: ImageCodec
    layout: RequestLayout
    device: torch.device


def load_model(
    directory: Path, *, device: str = "cpu", dtype: DtypeName = "float32", adapter: Path | None = None
) -> Model:
    """Load a checkpoint directory.

    Args:
        directory: Laid out as the published repository.
        device: As torch names it: ``cpu``, ``cuda``, ``cuda:1``.
        dtype: Type of the transformer's weights; the image codec is float32 as in the reference.
        adapter: Directory of a LoRA adapter to merge into the transformer.

    Raises:
        ConfigError: If the device or the type is not to be had.
        WeightsError: If the checkpoint is incomplete or contradicts itself.
    """
    target = _device(device)
    check_files(directory)
    config = read_model_config(directory / "config.json")
    tokenizer = Tokenizer(directory)
    codec = ImageCodec.load(directory, device=target, max_batch=1 if target.type == "cpu" else 16)
    if codec.pixels_per_code != PIXELS_PER_TOKEN:
        raise WeightsError(
            f"{directory / 'vqvae'}: one code must stand for {PIXELS_PER_TOKEN} pixels, got {codec.pixels_per_code}"
        )
    tokens = read_special_tokens(tokenizer, config, num_codes=codec.num_codes)
    transformer = load_transformer(directory, config, device=target, dtype=_dtype(dtype), adapter=adapter)
    return Model(config, tokens, transformer, codec, RequestLayout(tokenizer, tokens), target)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device must be a torch device such as 'cpu' or 'cuda:0', got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} was asked for, but torch {torch.__version__} sees no CUDA device")
    return device


def _dtype(name: str) -> torch.dtype:
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float8": FLOAT8}
    if name not in dtypes:
        raise ConfigError(f"dtype must be one of {', '.join(dtypes)}, got {name!r}")
    return dtypes[name]
