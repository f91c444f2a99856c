"""A LoRA adapter as PEFT saves one, merged into the weights while they are read.

Each pair of matrices is checked by name and shape against the checkpoint and the adapter's own config. What would make
PEFT's merged model another one than base weights plus scaled products is refused by name. Nothing of an adapter is
executed.

Source: LoRA, Hu et al. 2021, eq. 3; rank-stabilised scaling, Kalajdzievski 2023; PEFT's ``LoraConfig`` and
``get_delta_weight``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dimoo_core.checkpoint.tensors import StoredTensor, read_header
from dimoo_core.errors import WeightsError
from dimoo_core.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, file_names, read_json_object, weight_pickles

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "base_model.model."
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_OTHER_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(\.\w+)?(\.weight)?")  # a state_dict as it is in memory
_DTYPES = ("F64", "F32", "F16", "BF16")
_LARGEST = 1e30  # a rank or a scale beyond it is a mistake, and no float32
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
    pairs: "Mapping[str, tuple[Tensor, Tensor, float]]"

    def merged(self, name: str, weight: "Tensor") -> "Tensor":
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
        WeightsError: If a file is missing or damaged, the adapter is of another kind or for another architecture, its
            ranks are not those of its config, or it is not finite.
    """
    from dimoo_core.checkpoint.tensor_reader import check_finite, read_tensors

    path, scales = directory / ADAPTER_WEIGHTS, check_adapter(directory, shapes)
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(path):
        check_finite(tensor, f"{path}: {key}")
        module, side = _module_and_side(key, path)
        sides.setdefault(f"{module}.weight", {})[side] = tensor
    return Adapter(directory, {name: (sides[name]["A"], sides[name]["B"], scale) for name, scale in scales.items()})


def check_adapter(directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    """Look at an adapter's config and its file's header; returns the scale of each pair, by the weight it is for."""
    _check_kind(directory)
    config = _read_config(directory / ADAPTER_CONFIG)
    scales: dict[str, float] = {}
    for module, pair in _stored_sides(directory / ADAPTER_WEIGHTS).items():
        where = f"{directory / ADAPTER_WEIGHTS}: {module}"
        if lacking := {"A", "B"} - pair.keys():
            raise WeightsError(f"{where} has no lora_{min(lacking)}: an adapter needs both of its matrices")
        name = f"{module}.weight"
        if name not in shapes or len(shapes[name]) != 2:
            raise WeightsError(f"{where} is no matrix of the checkpoint: the adapter is for another architecture")
        rank = _of_module(config, "rank_pattern", module, config["r"])
        num_outputs, num_inputs = shapes[name]
        for side, shape in (("A", (rank, num_inputs)), ("B", (num_outputs, rank))):
            if pair[side].shape != shape:
                raise WeightsError(f"{where}: lora_{side} must have shape {shape}, got {pair[side].shape}")
        alpha = _of_module(config, "alpha_pattern", module, config["lora_alpha"])
        scales[name] = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    return scales


def _check_kind(directory: Path) -> None:
    """Refuse a directory that is a checkpoint, or an adapter saved as a pickle."""
    names = file_names(directory)
    if ADAPTER_CONFIG not in names and "config.json" in names:
        raise WeightsError(
            f"{directory} is a checkpoint, not an adapter: give it as model, and as adapter a directory with "
            f"{ADAPTER_CONFIG}"
        )
    if ADAPTER_WEIGHTS not in names and (pickles := weight_pickles(names)):
        raise WeightsError(
            f"{directory} holds {pickles[0]}, a pickle, where only {ADAPTER_WEIGHTS} is read: save the adapter again "
            f"with PEFT's save_pretrained, or load it with torch.load(weights_only=True) and save it with "
            f"safetensors.torch.save_file"
        )


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json_object(path, if_missing="an adapter is a directory as PEFT saves one")
    if config.get("peft_type") != "LORA":
        raise WeightsError(f"{path}: peft_type must be 'LORA', got {config.get('peft_type')!r}")
    for key in _OTHER_MATHS:
        if config.get(key):
            raise WeightsError(f"{path}: {key} is set, which is not supported: merge the adapter with PEFT instead")
    if config.get("bias", "none") != "none":
        raise WeightsError(f"{path}: bias must be 'none', got {config['bias']!r}: the model has no biases")
    initial = config.get("init_lora_weights")
    if isinstance(initial, str) and initial.lower().startswith(_CHANGED_BASES):
        fix = "save the adapter with PEFT's path_initial_model_for_weight_conversion"
        raise WeightsError(f"{path}: init_lora_weights {initial!r} changes the base weights, which are not here: {fix}")
    if not isinstance(config.get("use_rslora", False), bool | None):
        raise WeightsError(f"{path}: use_rslora must be true or false, got {config['use_rslora']!r}")
    for key in ("r", "lora_alpha"):
        _check_positive(path, key, config.get(key))
    for key in ("rank_pattern", "alpha_pattern"):
        _check_pattern(path, key, config.get(key))
    return config


def _check_pattern(path: Path, key: str, pattern: object) -> None:
    if pattern is None:
        return
    if not isinstance(pattern, dict):
        raise WeightsError(f"{path}: {key} must be an object of module names and numbers, got {pattern!r}")
    for module, value in pattern.items():
        try:
            re.compile(_ending(module))
        except (re.error, OverflowError, RecursionError) as error:
            reason, fix = getattr(error, "msg", error), "correct it, or write the module's name"
            raise WeightsError(f"{path}: {key}: {module!r} is not a regular expression ({reason}): {fix}") from error
        _check_positive(path, f"{key}: {module!r}", value, is_whole=key == "rank_pattern")


def _check_positive(path: Path, key: str, value: object, *, is_whole: bool | None = None) -> None:
    kind = int if (key == "r" if is_whole is None else is_whole) else int | float
    if not isinstance(value, kind) or isinstance(value, bool) or not 0 < value < _LARGEST:
        what = "whole number" if kind is int else "number"
        limits = "above 0" if not isinstance(value, kind) or not value >= _LARGEST else f"from above 0 to {_LARGEST:g}"
        raise WeightsError(f"{path}: {key} must be a {what} {limits}, got {repr(value)[:50]}")


def _stored_sides(path: Path) -> dict[str, dict[str, StoredTensor]]:
    """The file's header entries for the matrices A and B of each module, named as in the checkpoint."""
    sides: dict[str, dict[str, StoredTensor]] = {}
    for key, stored in read_header(path, if_missing=f"an adapter's weights lie beside its {ADAPTER_CONFIG}").items():
        module, side = _module_and_side(key, path)
        if stored.dtype not in _DTYPES:
            raise WeightsError(f"{path}: {key} must be floating point ({', '.join(_DTYPES)}), got {stored.dtype}")
        sides.setdefault(module, {})[side] = stored
    if not sides:
        raise WeightsError(f"{path} holds no tensors: the adapter changes nothing")
    return sides


def _module_and_side(key: str, path: Path) -> tuple[str, str]:
    match = _KEY.fullmatch(key)
    if match is not None:
        return match["module"], match["side"]
    words = f"{path} holds {key}, which is not lora_A or lora_B of a linear layer"
    if _OTHER_KEY.fullmatch(key):
        words += f" as PEFT names it, {_PREFIX}MODULE.lora_A.weight: save the adapter with PEFT's save_pretrained"
    raise WeightsError(words)


def _of_module(config: Mapping[str, Any], pattern: str, module: str, default: Any) -> Any:
    """The value of a pattern for a module, by the first of its keys that is the module's name or the end of it."""
    for key, value in (config.get(pattern) or {}).items():
        if re.match(_ending(key), module):
            return value
    return default


def _ending(key: str) -> str:
    """The expression that PEFT makes of a pattern's key."""
    return rf"(.*\.)?({key})$"
