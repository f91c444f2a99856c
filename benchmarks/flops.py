"""Counts, exactly, what one generation costs in arithmetic: the reference's way and the engine's.

``python -m benchmarks.flops [--size 1024x1024] [--steps 64] [--cfg 4] [--shape 8b] [--json FILE]``

The engine's count comes from a real ``Engine`` that runs whole generations at the 8B shape, on a transformer that
counts on meta tensors. The reference's count comes from ``benchmarks.plain``: every layer and the whole head at every
position of every stream at every step. Its one extra forward pass of a single token, by which it finds the size of its
vocabulary, is ignored (a millionth). With the step cache the count depends on values in its last digits: where a
refresh follows, only those of the recomputed positions are read that are still masked.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.counting_transformer import Flops
from benchmarks.flop_comparison import Comparison, Counting, flops_by_hand
from benchmarks.result_file import write_result
from benchmarks.shape import SHAPES
from benchmarks.workload import caption_requests, image_requests, parse_size
from dimoo_core.model_config import ModelConfig
from dimoo_core.settings import ImageSettings, StepCacheConfig, TextSettings

_NUM_TOGETHER = 8
_PETA = 1e15
_FORMULA = "steps x sum over streams of layers x (2T(4dd + 3df) + 4TTd) + 2TdV; T tokens, d hidden, f MLP, V columns"
_NOT_COUNTED = "counted: matrix products and attention; not counted: norms, rotary embedding, activations, sampling"


def table(comparison: Comparison, config: ModelConfig) -> str:
    """The comparison for people."""
    reference, engine = comparison.reference, comparison.engine
    by_hand = Flops()
    for length in comparison.sequence_lengths:
        by_hand += flops_by_hand(config, length)
    by_hand *= comparison.num_steps * comparison.num_requests
    lines = [
        f"{comparison.name}",
        f"  {comparison.num_steps} steps of {len(comparison.sequence_lengths)} streams a request, "
        f"{' + '.join(map(str, comparison.sequence_lengths))} tokens",
        "",
        f"  {'PFLOP':<66}{'reference':>11}{'engine':>11}{'saved':>11}",
    ]
    parts = (
        (f"layers 1 to {config.num_layers - 1}", reference.inner_layers, engine.inner_layers),
        (f"layer {config.num_layers}", reference.last_layer, engine.last_layer),
        (f"head ({config.num_embeddings:,} columns; engine {comparison.num_columns:,})", reference.head, engine.head),
        ("total", reference.total, engine.total),
    )
    lines += [f"  {name:<66}{_peta(a)}{_peta(b)}{_peta(a - b)}" for name, a, b in parts]
    lines.append("")
    lines.append(f"  {'saved by':<66}{'PFLOP':>11}{'of all':>11}")
    lines += [
        f"  {name:<66}{_peta(saved)}{saved / reference.total:>11.2%}"
        for name, saved in comparison.savings().items()
        if saved
    ]
    verdict = "the same" if by_hand == reference else "NOT the same"
    lines += ["", f"  reference by formula: {by_hand.total / _PETA:.4f} PFLOP, {verdict} as counted, part by part"]
    lines.append(f"    {_FORMULA}")
    return "\n".join(lines)


def _peta(flops: int) -> str:
    return f"{flops / _PETA:>11.4f}"


def _json(comparison: Comparison) -> dict[str, object]:
    return {
        "name": comparison.name,
        "stream_lengths": comparison.sequence_lengths,
        "num_requests": comparison.num_requests,
        "num_steps": comparison.num_steps,
        "share_of_reference": comparison.share,
        "reference_flops": _parts(comparison.reference),
        "engine_flops": _parts(comparison.engine),
        "saved_flops": comparison.savings(),
    }


def _parts(flops: Flops) -> dict[str, int]:
    return {
        "inner_layers": flops.inner_layers,
        "last_layer": flops.last_layer,
        "head": flops.head,
        "total": flops.total,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, print the tables, and write the numbers if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flops", description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="1024x1024", help="width and height of the image in pixels")
    parser.add_argument("--steps", type=int, default=64, help="denoising steps of the image")
    parser.add_argument("--cfg", type=float, default=4.0, help="guidance scale; 0 is no guidance")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="8b", help="the published model or a tiny one")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(arguments)

    shape = SHAPES[options.shape]
    width_px, height_px = parse_size(options.size)
    image = ImageSettings(width_px=width_px, height_px=height_px, num_steps=options.steps, cfg_scale=options.cfg)
    counting = Counting(shape)
    image_name = f"text-to-image {options.size}, CFG {options.cfg:g}"
    requests = image_requests(shape, image, _NUM_TOGETHER)
    alone = counting.compare(f"{image_name}: one image alone", requests[:1])
    together = counting.compare(f"{image_name}: {_NUM_TOGETHER} images in one batch", requests)
    (captioning,) = caption_requests(shape, TextSettings(max_tokens=1024, block_length=256), 1, image_px=1024)
    answer = counting.compare("answer of 1024 tokens in blocks of 256 about an image of 1024x1024", [captioning])

    (caching,) = image_requests(shape, replace(image, step_cache=StepCacheConfig()), 1)
    cached = counting.compare(f"{image_name}: one image with the step cache, against no cache", [caching])

    comparisons = (alone, together, cached, answer)
    for comparison in comparisons:
        print(table(comparison, shape.config))
        print(f"  share of the reference: {comparison.share:.4f}\n")
    print(_NOT_COUNTED)
    print(f"exact share of reference FLOPs: {alone.share:.3f}")
    if options.json is not None:
        write_result(
            options.json, {"benchmark": "flops", "shape": shape.name, "comparisons": list(map(_json, comparisons))}
        )


if __name__ == "__main__":
    main()
