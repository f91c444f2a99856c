import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import engine
from benchmarks.case import caption_case, image_case
from benchmarks.counting_transformer import PlainCounter
from benchmarks.flop_comparison import Counting
from benchmarks.preset_cost import Cost, CostCounter, time_costs
from benchmarks.random_weights import random_transformer
from benchmarks.shape import PROPORTIONAL, TINY
from benchmarks.timing import Subject
from benchmarks.workload import image_requests, sequence_lengths
from dimoo_core.presets import PRESETS, Preset
from dimoo_core.settings import ImageSettings

pytestmark = pytest.mark.soak

_CPU = torch.device("cpu")
_TINY_RUN = ["--shape", "tiny", "--size", "32x32", "--steps", "4", "--caption-steps", "4", "--threads", "1"]
_COUNTER = CostCounter(Counting(TINY))


def _image_cost(preset: Preset, batch: int = 1) -> Cost:
    return _COUNTER.cost(image_case(TINY, (64, 64), 6, batch, preset))


def test_a_whole_run_measures_every_preset_at_every_batch_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engine.json"
    engine.main([*_TINY_RUN, "--batch", "1,2", "--repeats", "1", "--out", str(out)])
    result = json.loads(out.read_text())
    rows = [(cost["unit"], cost["preset"], cost["batch"]) for cost in result["costs"]]
    assert rows == [
        *(("image", name, batch) for name in PRESETS for batch in (1, 2)),
        *(("caption", name, batch) for name in ("exact", "balanced", "fast") for batch in (1, 2)),
    ]
    for cost in result["costs"]:
        assert len(cost["process_s"]) == len(cost["plain_process_s"]) == 1
        assert cost["median_to_plain"] > 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"exact share of reference FLOPs: {result['costs'][0]['share_of_reference']:.3f}"


def test_counting_alone_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "engine.json"
    engine.main([*_TINY_RUN, "--flops-only", "--out", str(out)])
    result = json.loads(out.read_text())
    assert not result["is_timed"]
    assert all(cost["process_s"] == [] for cost in result["costs"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("exact share of reference FLOPs: 0.")


def test_exact_images_compute_every_token_of_the_reference_with_less_arithmetic() -> None:
    cost = _image_cost(PRESETS["exact"])
    assert cost.tokens == cost.reference_tokens
    assert 0 < cost.share < 1


def test_presets_cost_less_from_one_to_the_next() -> None:
    costs = [_COUNTER.cost(image_case(TINY, (256, 256), 64, 1, preset)) for preset in PRESETS.values()]
    assert [cost.flops for cost in costs] == sorted((cost.flops for cost in costs), reverse=True)
    assert [cost.tokens for cost in costs] == sorted((cost.tokens for cost in costs), reverse=True)


def test_sequences_that_are_shared_in_a_batch_make_each_image_cheaper() -> None:
    alone, together = _image_cost(PRESETS["exact"]), _image_cost(PRESETS["exact"], batch=4)
    assert together.flops < alone.flops
    assert together.reference_flops == alone.reference_flops


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_as_many_tokens_are_counted_as_a_real_engine_computes(preset: Preset) -> None:
    subject = Subject(random_transformer(TINY), TINY)
    for case in (image_case(TINY, (64, 64), 6, 2, preset), caption_case(TINY, 32, 2, preset, 16)):
        run, counted = subject.run_engine(case.build(case.num_steps, _CPU)), _COUNTER.cost(case).tokens
        if preset.name == "reference-cache":  # what it computes depends on its logits
            assert run.num_tokens == pytest.approx(counted * case.batch, rel=0.05)
        else:
            assert run.num_tokens == counted * case.batch


def test_an_answer_with_parallel_commits_is_counted_as_if_it_made_none() -> None:
    balanced, fast = (_COUNTER.cost(caption_case(TINY, 32, 1, PRESETS[name])) for name in ("balanced", "fast"))
    assert fast.flops == balanced.flops


def test_times_are_taken_in_pairs() -> None:
    costs = [_image_cost(PRESETS[name], batch) for name, batch in (("exact", 1), ("fast", 2))]
    lines: list[str] = []
    time_costs(Subject(random_transformer(TINY), TINY), costs, 2, lines.append)
    assert [len(cost.process_s) for cost in costs] == [2, 2]
    assert costs[0].plain_process_s == costs[1].plain_process_s
    assert len(lines) == 2
    paired = replace(costs[0], process_s=[1.0, 2.0, 4.0], plain_process_s=[3.0, 8.0, 8.0])
    assert paired.speedup == 3.0


def test_the_small_models_head_takes_as_much_as_that_of_the_published_one() -> None:
    (request,) = image_requests(PROPORTIONAL, ImageSettings(width_px=384, height_px=384), 1)
    counter = PlainCounter(PROPORTIONAL.config)
    sequences = [counter.stream_flops(length) for length in sequence_lengths(request)]
    share = sum(flops.head for flops in sequences) / sum(flops.total for flops in sequences)
    assert 0.06 < share < 0.07


def test_a_comparison_needs_the_exact_preset(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        engine.main([*_TINY_RUN, "--presets", "fast"])
    assert "'exact'" in capsys.readouterr().err
