"""A LoRA adapter as PEFT saves one, merged into the weights while they are read.

Each pair of matrices is checked by name and shape against the checkpoint and the adapter's own config. What would make
PEFT's merged model another one than base weights plus scaled products is refused by name. Nothing of an adapter is
executed.

Source: LoRA, Hu et al. 2021, eq. 3; rank-stabilised scaling, Kalajdzievski 2023; PEFT's ``LoraConfig`` and
``get_delta_weight``.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dimoo_core.errors import WeightsError

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"

_PREFIX = "base_model.model."
_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_OTHER_MATHS = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "megatron_config",
    "alora_invocation_tokens",
    "arrow_config",
    "monteclora_config",
    "velora_config",
    "kasa_config",
)
_CHANGED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Products to add to weights, by the name of the checkpoint's tensor: A (rank, in), B (out, rank), and a scale."""

    directory: Path
    pairs: Mapping[str, tuple[Tensor, Tensor, float]]

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """The weight with the adapter's part of it, added up in float32; as it is, where the adapter has none."""
        if name not in self.pairs:
            return weight
        a, b, scale = self.pairs[name]
        return weight.float() + (b.float() @ a.float()) * scale


def read_adapter(directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> Adapter:
    """Read an adapter directory.

    Args:
        directory: Holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        shapes: Name and shape of every tensor of the checkpoint that it is for.

    Raises:
        WeightsError: If a file is missing or damaged, the adapter is of another kind or for another architecture, or
            its ranks are not those of its config.
    """
    config = _read_config(directory / CONFIG_NAME)
    sides = _read_sides(directory / WEIGHTS_NAME)
    pairs: dict[str, tuple[Tensor, Tensor, float]] = {}
    for module, pair in sides.items():
        where = f"{directory / WEIGHTS_NAME}: {module}"
        if lacking := {"A", "B"} - pair.keys():
            raise WeightsError(f"{where} has no lora_{min(lacking)}: an adapter needs both of its matrices")
        name = f"{module}.weight"
        if name not in shapes or len(shapes[name]) != 2:
            raise WeightsError(f"{where} is no matrix of the checkpoint: the adapter is for another architecture")
        rank = _of_module(config, "rank_pattern", module, config["r"])
        num_outputs, num_inputs = shapes[name]
        for side, shape in (("A", (rank, num_inputs)), ("B", (num_outputs, rank))):
            if tuple(pair[side].shape) != shape:
                raise WeightsError(f"{where}: lora_{side} must have shape {shape}, got {tuple(pair[side].shape)}")
        alpha = _of_module(config, "alpha_pattern", module, config["lora_alpha"])
        scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
        pairs[name] = (pair["A"], pair["B"], scale)
    return Adapter(directory, pairs)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path} is missing: an adapter is a directory as PEFT saves one") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise WeightsError(f"{path}: peft_type must be 'LORA', got {kind!r}")
    for key in _OTHER_MATHS:
        if config.get(key):
            raise WeightsError(f"{path}: {key} is set, which is not supported: merge the adapter with PEFT instead")
    if config.get("bias", "none") != "none":
        raise WeightsError(f"{path}: bias must be 'none', got {config['bias']!r}: the model has no biases")
    initial = config.get("init_lora_weights")
    if isinstance(initial, str) and initial.lower().startswith(_CHANGED_BASES):
        fix = "save the adapter with PEFT's path_initial_model_for_weight_conversion"
        raise WeightsError(f"{path}: init_lora_weights {initial!r} changes the base weights, which are not here: {fix}")
    for key in ("r", "lora_alpha"):
        _check_positive(path, key, config.get(key))
    for key in ("rank_pattern", "alpha_pattern"):
        for value in (config.get(key) or {}).values():
            _check_positive(path, key, value)
    return config


def _check_positive(path: Path, key: str, value: object) -> None:
    kind = int if key in ("r", "rank_pattern") else int | float
    if not isinstance(value, kind) or isinstance(value, bool) or value <= 0:
        what = "whole number" if kind is int else "number"
        raise WeightsError(f"{path}: {key} must be a {what} above 0, got {value!r}")


def _read_sides(path: Path) -> dict[str, dict[str, Tensor]]:
    """The matrices A and B of each module, named as in the checkpoint."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key.removeprefix(_PREFIX)) if key.startswith(_PREFIX) else None
        if match is None:
            raise WeightsError(f"{path} holds {key}, which is not lora_A or lora_B of a linear layer")
        if not tensor.is_floating_point():
            raise WeightsError(f"{path}: {key} must be floating point, got {tensor.dtype}")
        sides.setdefault(match["module"], {})[match["side"]] = tensor
    if not sides:
        raise WeightsError(f"{path} holds no tensors: the adapter changes nothing")
    return sides


def _of_module(config: Mapping[str, Any], pattern: str, module: str, default: Any) -> Any:
    """What a pattern says of a module, by the first of its keys that is the module's name or the end of it."""
    for key, value in (config.get(pattern) or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default
