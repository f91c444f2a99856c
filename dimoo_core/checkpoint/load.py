"""A whole checkpoint, loaded: transformer, image codec, tokenizer and special ids that belong together."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dimoo_core.checkpoint.check import check_checkpoint
from dimoo_core.checkpoint.weights import load_codec, load_transformer
from dimoo_core.codec.codec import ImageCodec
from dimoo_core.errors import ConfigError
from dimoo_core.memory.check import refusing_for_memory
from dimoo_core.model.float8 import FLOAT8
from dimoo_core.model.transformer import Transformer
from dimoo_core.model_config import ModelConfig
from dimoo_core.request.builder import RequestLayout
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import DtypeName


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
        ConfigError: If the device or the type is not to be had, or memory runs out.
        WeightsError: If the checkpoint is incomplete or contradicts itself.
    """
    target, weight_dtype = _device(device), _dtype(dtype)
    found = check_checkpoint(directory, adapter=adapter)
    with refusing_for_memory():
        codec = load_codec(directory, device=target, max_batch=1 if target.type == "cpu" else 16)
        transformer = load_transformer(directory, found.config, device=target, dtype=weight_dtype, adapter=adapter)
    return Model(found.config, found.tokens, transformer, codec, RequestLayout(found.tokenizer, found.tokens), target)


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
