"""What a generation costs in arithmetic, in closed form: for plans, without a model and without running anything.

Counted as in ``torch.utils.flop_counter``: matrix products and attention, a multiply-add being two. Every step is taken
to be computed for the request alone; what requests of a batch share makes a real run a little cheaper. Importable
without torch; cached decodings import it when they are counted.

Source: the shapes of ``transformer.Block``. Symbols: d hidden size, k width of keys, f MLP, C computed and R read
positions, K keys, V columns of the head that are read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dimoo_core.model_config import ModelConfig
from dimoo_core.settings import ImageSettings, StepCacheConfig, TargetCacheConfig, TextSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The shape of one request.

    Attributes:
        sequence_lengths: Tokens of each sequence, the conditional one first.
        num_target: Tokens of the target, newlines included.
        num_masked: Those of them that are to be decided.
        num_suffix: Tokens after the target.
        num_distinct: Different ids among all that is given, the mask included.
        num_columns: Columns of the head that are read.
    """

    sequence_lengths: tuple[int, ...]
    num_target: int
    num_masked: int
    num_suffix: int
    num_distinct: int
    num_columns: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating-point operations, tokens that go through the transformer, and steps."""

    flops: int = 0
    num_tokens: int = 0
    num_steps: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.num_tokens + other.num_tokens, self.num_steps + other.num_steps)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One sequence in one step: computed, read, and keys."""

    computed: int
    read: int
    keys: int


def image_cost(config: ModelConfig, shape: Generation, settings: ImageSettings) -> Cost:
    """The cost of one image."""
    total = Cost()
    for passes, num_decided in _image_steps(shape, settings):
        total += _step_cost(config, shape, passes, num_decided)
    return total


def text_cost(config: ModelConfig, shape: Generation, settings: TextSettings) -> Cost:
    """The cost of one answer that fills its place and decides at each step its share: the most that it can cost."""
    total = Cost()
    for passes, num_decided in _text_steps(shape, settings):
        total += _step_cost(config, shape, passes, num_decided)
    return total


def _step_cost(config: ModelConfig, shape: Generation, passes: list[_Pass], num_decided: int) -> Cost:
    size, kv, mlp = config.hidden_size, config.kv_size, config.mlp_size
    projections = 2 * size * (size + 2 * kv)
    rest = 2 * size * size + 6 * size * mlp
    flops = 0
    for each in passes:
        inner = each.computed * (projections + rest) + 4 * each.computed * each.keys * size
        last = each.computed * 4 * size * kv + each.read * (2 * size * size + rest) + 4 * each.read * each.keys * size
        flops += (config.num_layers - 1) * inner + last + 2 * each.read * size * shape.num_columns
    num_tokens = sum(each.computed for each in passes)
    if config.num_layers > 1:
        # The first layer projects each id once; sequences of a request have decided alike.
        flops -= max(0, num_tokens - min(num_tokens, shape.num_distinct + num_decided)) * projections
    return Cost(flops, num_tokens, 1)


def _image_steps(shape: Generation, settings: ImageSettings) -> Iterator[tuple[list[_Pass], int]]:
    """For each step, what every sequence that is due computes, and how many positions are decided before it."""
    lefts = _left_counts(shape.num_masked, settings.num_steps)
    masked = shape.num_masked
    if isinstance(settings.step_cache, TargetCacheConfig):
        yield from _focused_steps(shape, settings, settings.step_cache, lefts)
        return
    for step, left in enumerate(lefts):
        cache, decided = settings.step_cache, shape.num_masked - masked
        passes = []
        for index, length in enumerate(shape.sequence_lengths):
            if index and step % settings.uncond_interval:
                continue
            computed = read = length
            if isinstance(cache, StepCacheConfig) and not _is_refresh(step, settings.num_steps, cache):
                computed = read = math.floor((1 - cache.reuse_ratio) * (length - 1)) + 1
            is_kept = isinstance(cache, StepCacheConfig) and _is_kept(step, settings.num_steps, cache)
            passes.append(_Pass(computed, read if is_kept else min(computed, masked), length))
        yield passes, decided
        masked = left


def _focused_steps(
    shape: Generation, settings: ImageSettings, cache: TargetCacheConfig, lefts: Iterator[int]
) -> Iterator[tuple[list[_Pass], int]]:
    from dimoo_core.decoding.lookahead import PassPlan, num_looked_at

    plan = PassPlan(settings.num_steps, shape.num_masked, cache)
    masked, undone = shape.num_masked, [0] * len(shape.sequence_lengths)
    for step, left in enumerate(lefts):
        kind, decides = plan.kind, masked - left
        looked = num_looked_at(masked, decides, cache) if kind == "some" else masked
        is_due = plan.since_refresh % settings.uncond_interval == 0
        passes = []
        for index, length in enumerate(shape.sequence_lengths):
            if index and not is_due:
                undone[index] += decides
                continue
            computed = length if kind == "all" else shape.num_target + shape.num_suffix
            passes.append(_Pass(undone[index] + looked if kind == "some" else computed, looked, length))
            undone[index] = decides
        yield passes, shape.num_masked - masked
        masked = left
        plan.advance(step + 1, decides)


def _text_steps(shape: Generation, settings: TextSettings) -> Iterator[tuple[list[_Pass], int]]:
    length, cache, num_run = settings.block_length, settings.cache, 0
    for block in range(settings.num_blocks):
        left, base = length, block * length
        for step in range(settings.steps_per_block):
            share = length // settings.steps_per_block + (step < length % settings.steps_per_block)
            if share == 0:
                continue
            from_here = shape.num_target - base + shape.num_suffix
            computed = None
            if cache is not None and cache.refresh_interval != 1 and num_run:
                if step == 0 and not (cache.prompt_interval and block % cache.prompt_interval == 0):
                    computed = from_here + min(base, length)  # what the block before decided last is stale
                elif step and not (cache.refresh_interval and step % cache.refresh_interval == 0):
                    computed = length if cache.mode == "dual" else from_here
            passes = [_Pass(computed or whole, left, whole) for whole in shape.sequence_lengths]
            yield passes, base + length - left
            left -= share
            num_run += 1


def _left_counts(num_masked: int, num_steps: int) -> Iterator[int]:
    """Positions that are masked after each step until none is.

    Source: ``schedule``, in float64: at most one position off where float32 rounds.
    """
    left = num_masked
    for step in range(num_steps):
        if left == 0:
            return
        keep = math.floor(num_masked * math.cos(0.5 * math.pi * (step + 1) / num_steps))
        left = 0 if step + 1 == num_steps else min(max(1, keep), left - 1)
        yield left


def _is_refresh(step: int, num_steps: int, cache: StepCacheConfig) -> bool:
    warmup = int(num_steps * cache.warmup_ratio)
    return step <= warmup or (step - warmup) % cache.refresh_interval == 0


def _is_kept(step: int, num_steps: int, cache: StepCacheConfig) -> bool:
    """Whether the next step computes some positions only, so that the logits of all are wanted."""
    return step + 1 < num_steps and not _is_refresh(step + 1, num_steps, cache)
