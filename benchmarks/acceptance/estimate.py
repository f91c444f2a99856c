"""What an acceptance run will take: arithmetic by closed forms, seconds by the device's own speed, memory, bytes."""

from dataclasses import dataclass

import torch

from benchmarks.acceptance.turn import now
from benchmarks.case_report import generation_of
from benchmarks.flop_comparison import flops_by_hand
from benchmarks.shape import Shape
from benchmarks.workload import sequence_lengths
from dimoo_core.engine.flops import image_cost, text_cost
from dimoo_core.model_config import ModelConfig
from dimoo_core.presets import Preset
from dimoo_core.request.request import Request
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ImageSettings, TextSettings

_USED_SHARE = 0.4  # of the speed of one large product, by whole forward passes
_PRODUCT_ROWS = 1024
_MEASURED_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Floating-point operations of one request, and its forward passes."""

    reference: int
    by_preset: dict[str, int]
    num_steps: int


def arithmetic(config: ModelConfig, tokens: SpecialTokens, request: Request, presets: list[Preset]) -> Arithmetic:
    """Count one request. Presets are counted as if nothing were decided early, so they may take less."""
    settings = request.settings
    generation = generation_of(Shape(name="", config=config, tokens=tokens, num_text_ids=0), request)
    if isinstance(settings, ImageSettings):
        num_steps = settings.num_steps
        costs = {preset.name: image_cost(config, generation, preset.image(settings)).flops for preset in presets}
    else:
        assert isinstance(settings, TextSettings)
        num_steps = settings.steps_per_block * settings.num_blocks
        costs = {preset.name: text_cost(config, generation, preset.text(settings)).flops for preset in presets}
    of_a_step = sum(flops_by_hand(config, length).total for length in sequence_lengths(request))
    return Arithmetic(reference=of_a_step * num_steps, by_preset=costs, num_steps=num_steps)


def expected_rate(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s to be expected of forward passes, from products of the model's own size timed on the device."""
    rows = torch.ones(_PRODUCT_ROWS, config.hidden_size, device=device, dtype=dtype)
    matrix = torch.ones(config.hidden_size, config.mlp_size, device=device, dtype=dtype)
    flops, count = 2 * rows.shape[0] * matrix.numel(), 0
    _ = rows @ matrix  # loads the library
    started_s = now(device)
    while (elapsed_s := now(device) - started_s) < _MEASURED_S:
        _ = rows @ matrix
        count += 1
    return _USED_SHARE * flops * count / elapsed_s


def step_bytes(config: ModelConfig, requests: list[Request], dtype: torch.dtype) -> int:
    """About what a step of the reference takes beside the weights: its logits, and for text their softmax in float64.

    The engine takes less: it reads fewer columns at fewer positions.
    """
    most = 0
    for request in requests:
        length = max(sequence_lengths(request))
        per_number = 2 * dtype.itemsize if isinstance(request.settings, ImageSettings) else dtype.itemsize + 16
        most = max(most, length * config.num_embeddings * per_number)
    return most
