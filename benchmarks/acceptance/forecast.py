"""What an acceptance run says at its start: bytes, memory, arithmetic and minutes, by turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from benchmarks.acceptance.estimate import Arithmetic, arithmetic, expected_rate, step_bytes
from benchmarks.acceptance.inputs import Inputs
from benchmarks.acceptance.memory import free_bytes
from benchmarks.acceptance.row import Row
from benchmarks.acceptance.run import REFERENCE, contenders, turn_name
from dimoo_core.presets import DEFAULT_PRESET, PRESETS
from dimoo_core.settings import DtypeName

_READ_BYTES_PER_S = 1e9  # of files, by either implementation: what a disk gives, not memory

_STEP_S = 0.003  # of a step beside its arithmetic, which is most of it for a tiny model


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """``seconds`` are by turn and row, without loading; ``flops`` by turn; ``refused`` are dtypes that do not fit."""

    read_bytes: int
    weight_bytes: dict[str, int]
    step_bytes: dict[str, int]
    free_bytes: int | None
    rates: dict[str, float]
    flops: dict[str, int]
    seconds: dict[str, dict[str, float]]
    load_s: float  # of all turns together
    refused: dict[str, str]

    @property
    def total_s(self) -> float:
        """Of everything that fits the memory."""
        return self.load_s + sum(sum(rows.values()) for rows in self.seconds.values())

    def lines(self, minutes: float) -> list[str]:
        """For people."""
        free = "unknown" if self.free_bytes is None else _gb(self.free_bytes)
        lines = [f"reads {_gb(self.read_bytes)} of files twice per dtype, about {self.load_s:.0f} s in all"]
        for dtype, size in self.weight_bytes.items():
            fits = self.refused.get(dtype, "fits")
            step = _gb(self.step_bytes[dtype])
            lines.append(f"{dtype}: weights {_gb(size)}, a step about {step}, free {free}: {fits}")
        for turn, rows in self.seconds.items():
            total_s = sum(rows.values())
            tflop = f"{self.flops[turn] / 1e12:,.2f} TFLOP"
            lines.append(f"{turn}: {len(rows)} rows, {tflop}, about {total_s / 60:.1f} min")
        total = f"about {self.total_s / 60:.1f} min in all"
        lines.append(f"{total}, --minutes {minutes:g}: rows that do not fit are left out and named")
        return lines


def forecast(
    inputs: Inputs, rows: Sequence[Row], dtypes: Sequence[DtypeName], presets: Sequence[str], num_bytes: int
) -> Forecast:
    """Count every row's arithmetic and divide it by the device's speed, measured on products of the model's size."""
    requests = [inputs.request(row) for row in rows]
    free = free_bytes(inputs.device)
    weights: dict[str, int] = {dtype: inputs.num_parameters * getattr(torch, dtype).itemsize for dtype in dtypes}
    steps: dict[str, int] = {dtype: step_bytes(inputs.config, requests, getattr(torch, dtype)) for dtype in dtypes}
    refused = {
        dtype: f"needs {_gb(weights[dtype] + steps[dtype])}, {_gb(free)} are free on {inputs.device}"
        for dtype in weights
        if free is not None and weights[dtype] + steps[dtype] > free
    }
    running = [dtype for dtype in weights if dtype not in refused]
    rates = {dtype: expected_rate(inputs.config, inputs.device, getattr(torch, dtype)) for dtype in running}
    named = [PRESETS[name] for name in dict.fromkeys((DEFAULT_PRESET, *presets))]
    counts = {
        row.name: arithmetic(inputs.config, inputs.tokens, request, named)
        for row, request in zip(rows, requests, strict=True)
    }
    turns = [(dtype, contender) for dtype in running for contender in contenders(dtype, running, presets)]
    return Forecast(
        read_bytes=num_bytes,
        weight_bytes=weights,
        step_bytes=steps,
        free_bytes=free,
        rates=rates,
        flops={turn_name(*turn): sum(_flops_of(turn[1], counts).values()) for turn in turns},
        seconds={turn_name(*turn): _seconds_of(turn[1], counts, rates[turn[0]]) for turn in turns},
        load_s=2 * len(running) * num_bytes / _READ_BYTES_PER_S,
        refused=refused,
    )


def _seconds_of(contender: str, counts: Mapping[str, Arithmetic], rate: float) -> dict[str, float]:
    return {row: flops / rate + _STEP_S * counts[row].num_steps for row, flops in _flops_of(contender, counts).items()}


def _flops_of(contender: str, counts: Mapping[str, Arithmetic]) -> dict[str, int]:
    if contender == REFERENCE:
        return {row: count.reference for row, count in counts.items()}
    return {row: count.by_preset[contender] for row, count in counts.items()}


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
