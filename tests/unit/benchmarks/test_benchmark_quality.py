import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import quality
from benchmarks.contender import Contender, Kind, image_contenders, text_contenders
from benchmarks.counting_transformer import CountingTransformer
from benchmarks.flop_comparison import Counting
from benchmarks.flop_meter import FlopMeter, stream_flops
from benchmarks.quality_plot import save_plot
from benchmarks.quality_point import Point, judge_points
from benchmarks.random_weights import random_transformer
from benchmarks.shape import EIGHT_B, TINY
from benchmarks.timing import Subject
from benchmarks.workload import image_requests
from dimoo_core.presets import PRESETS
from dimoo_core.settings import ImageSettings, TextSettings

pytestmark = pytest.mark.soak

_IMAGE = ImageSettings(width_px=64, height_px=64, num_steps=16, cfg_scale=0.0)


def _point(kind: Kind, flops: float, right: str, name: str = "") -> Point:
    contender = Contender(unit="image", kind=kind, name=name or kind, settings=_IMAGE)
    return Point(contender=contender, right=tuple(each == "1" for each in right), flops=flops, tokens=1.0)


@pytest.mark.parametrize("config", [TINY.config, EIGHT_B.config], ids=["tiny", "8b"])
@pytest.mark.parametrize("sizes", [(30, 30, 30), (30, 7, 30), (5, 5, 40), (9, 2, 100)])
def test_the_formula_is_what_the_counting_transformer_counts(config: object, sizes: tuple[int, int, int]) -> None:
    counter = CountingTransformer(config)  # type: ignore[arg-type]
    assert stream_flops(config, *sizes) == counter.stream_flops(*sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["exact", "balanced"])
def test_a_metered_run_costs_what_is_counted_and_the_first_projections_of_equal_ids(name: str) -> None:
    settings = PRESETS[name].image(replace(_IMAGE, cfg_scale=4.0, num_steps=6))
    requests = image_requests(TINY, settings, 2)
    subject = Subject(random_transformer(TINY), TINY)
    meter = FlopMeter(TINY.config, TINY.tokens.num_codes)
    with meter.watching(subject.transformer):
        run = subject.run_engine(requests)
    counted = Counting(TINY).engine(requests)
    assert meter.num_tokens == run.num_tokens
    assert meter.flops.total == counted.total + counted.spared
    subject.run_engine(requests)
    assert meter.num_tokens == run.num_tokens, "it counts although nobody watches"


def test_a_point_is_judged_by_fewer_steps_at_its_own_cost() -> None:
    curve = [_point("steps", 100, "0" * 50), _point("steps", 10_000, "1" * 50)]
    better, equal, worse = (_point("preset", 1000, "1" * count + "0" * (50 - count)) for count in (45, 25, 5))
    judgements = judge_points([*curve, better, equal, worse])
    assert [judgement.verdict for judgement in judgements] == ["above", "not told apart", "below"]
    assert [judgement.curve_accuracy for judgement in judgements] == [pytest.approx(0.5)] * 3
    assert judgements[0].gain == pytest.approx(0.4)


def test_a_point_that_costs_less_than_any_number_of_steps_has_nothing_to_beat() -> None:
    (judgement,) = judge_points([_point("steps", 100, "0011"), _point("preset", 99, "0000")])
    assert (judgement.verdict, judgement.gain) == ("beyond the curve", None)


def test_a_point_that_costs_more_than_most_steps_is_set_against_these() -> None:
    (judgement,) = judge_points(
        [_point("steps", 10, "0000"), _point("steps", 100, "0011"), _point("preset", 500, "1100")]
    )
    assert judgement.curve_accuracy == pytest.approx(0.5)


def test_examples_are_paired_so_that_equal_answers_leave_no_doubt() -> None:
    right = "0101" * 10
    curve = [_point("steps", 10, right), _point("steps", 100, right)]
    (judgement,) = judge_points([*curve, _point("preset", 30, right)])
    assert judgement.gain == pytest.approx(0.0)
    assert judgement.margin == pytest.approx(0.0)


def test_every_preset_that_changes_something_is_measured() -> None:
    images = image_contenders(_IMAGE)
    texts = text_contenders(TextSettings(max_tokens=32, block_length=32, num_steps=16))
    assert [each.name for each in images if each.kind == "preset"] == ["reference-cache", "balanced", "fast"]
    assert [each.name for each in texts if each.kind == "preset"] == ["balanced", "fast"]
    assert [each.name for each in images if each.kind == "steps"] == [
        "1 step",
        *(f"{n} steps" for n in (2, 4, 6, 8, 12, 16)),
    ]
    assert [each.name for each in texts if each.kind == "steps"] == ["1 step", *(f"{n} steps" for n in (2, 4, 8, 16))]
    assert "guidance each 2nd" in [each.name for each in image_contenders(replace(_IMAGE, cfg_scale=2.0))]


def test_a_small_run_prints_a_verdict_for_each_preset_and_writes_numbers_and_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plot = tmp_path / "quality.json", tmp_path / "quality.png"
    monkeypatch.setattr("benchmarks.contender._IMAGE_STEP_RATIOS", (1 / 8, 1))
    options = ["--image-examples", "1", "--text-tasks", "none", "--steps", "4", "--temperatures", "2,0.5"]
    quality.main([*options, "--threads", "1", "--out", str(out), "--plot", str(plot)])
    lines = capsys.readouterr().out.splitlines()
    verdicts = [line.partition(":")[0] for line in lines if line.startswith("preset ")]
    assert verdicts == [
        f"preset {name}, images at a temperature of {temperature}"
        for temperature in ("2", "0.5")
        for name in ("reference-cache", "balanced", "fast")
    ]
    points = json.loads(out.read_text())["points"]
    assert [point["name"] for point in points[:2]] == ["1 step", "4 steps"]
    assert points[0]["flops"] < points[1]["flops"]
    assert all(point["num_examples"] == 7 for point in points)
    assert {point["settings"]["temperature"] for point in points} == {2.0, 0.5}
    with Image.open(plot) as image:
        assert image.size == (1800, 640)


def test_the_plot_has_panels_two_by_two(tmp_path: Path) -> None:
    points = [_point("steps", 10, "0001"), _point("steps", 100, "0011"), _point("preset", 30, "0111", "fast")]
    save_plot(tmp_path / "three.png", [points] * 3)
    with Image.open(tmp_path / "three.png") as image:
        assert image.size == (1800, 1280)
        assert len(image.convert("RGB").getcolors(1 << 16) or []) > 3
