import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import gpu
from benchmarks.case import Case, caption_case, cases_in_order, image_case
from benchmarks.case_report import CaseReporter
from benchmarks.flop_comparison import Counting
from benchmarks.peak import peak_flops
from benchmarks.random_weights import in_float8, random_transformer
from benchmarks.result_file import write_result
from benchmarks.shape import TINY
from benchmarks.timing import CaseTiming, Run, Subject
from dimoo_core.model.float8 import FLOAT8
from dimoo_core.model.packed_batch import PackedBatch
from dimoo_core.model.transformer import Transformer
from dimoo_core.presets import PRESETS, find_preset

pytestmark = pytest.mark.soak

_CPU = torch.device("cpu")
_TINY_RUN = ["--device", "cpu", "--shape", "tiny", "--sizes", "64x32", "--steps", "2", "--batch", "1,2"]
_SCRIPT = """
import sys
from benchmarks.gpu import main
main(sys.argv[1:])
print(sorted({"ray", "boto3", "pyarrow", "diffusers", "transformers", "tokenizers", "safetensors"} & set(sys.modules)))
"""


def _timing(case: Case, *, steps: int, seconds: float) -> CaseTiming:
    num_tokens = Counting(TINY).count(case.build(steps, _CPU)).num_tokens
    run = Run(seconds=seconds, process_s=seconds, num_steps=steps, num_tokens=num_tokens, peak_memory_bytes=None)
    return CaseTiming(steps_measured=steps, engine_runs=[run], plain_runs=[run])


def _limit_tokens(transformer: Transformer, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = transformer.forward

    def forward(batch: PackedBatch, *others: Any) -> Tensor:
        if len(batch.ids_T) > limit:
            raise torch.OutOfMemoryError("out of memory")
        return whole(batch, *others)

    monkeypatch.setattr(transformer, "forward", forward)


def test_a_run_on_a_cpu_measures_every_case_with_torch_alone(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    options = [*_TINY_RUN, "--caption-batch", "1", "--caption-image", "32", "--repeats", "2", "--out", str(out)]
    completed = subprocess.run([sys.executable, "-c", _SCRIPT, *options], check=True, capture_output=True, text=True)
    assert completed.stdout.splitlines()[-1] == "[]"
    result = json.loads(out.read_text())
    names = [case["name"] for case in result["cases"]]
    assert names == [
        "image 64x32, batch 1",
        "caption of a 32 px image, batch 1",
        "image 64x32, batch 1, reference-cache",
        "image 64x32, batch 1, balanced",
        "caption of a 32 px image, batch 1, balanced",
        "image 64x32, batch 1, fast",
        "caption of a 32 px image, batch 1, fast",
        "image 64x32, batch 2",
        "image 64x32, batch 2, reference-cache",
        "image 64x32, batch 2, balanced",
        "image 64x32, batch 2, fast",
    ]
    assert result["not_measured"] == []
    assert (result["dtype"], result["attention"], result["peak_bf16_flops_per_s"]) == ("float32", None, None)
    for case in result["cases"]:
        assert case["steps_measured"] == case["steps"]
        assert len(case["engine"]["runs_s"]) == len(case["plain"]["runs_s"]) == 2
        assert case["engine"]["flops_per_run"] > 0


def test_weights_of_eight_bits_are_set_against_a_plain_loop_without_them(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    gpu.main(
        [*_TINY_RUN, "--batch", "1", "--no-captions", "--presets", "exact", "--dtype", "float8", "--out", str(out)]
    )
    result = json.loads(out.read_text())
    assert (result["dtype"], result["settings"]["steps"]) == ("float8_e4m3fn", 2)
    (case,) = result["cases"]
    assert 0 < case["engine"]["flops_per_run"] <= case["plain"]["flops_per_run"]
    plain = random_transformer(TINY, dtype=torch.bfloat16)
    rounded = in_float8(plain)
    assert rounded.head is plain.head
    assert rounded.weight_dtype == FLOAT8


def test_a_case_that_does_not_fit_the_time_is_noted(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    gpu.main([*_TINY_RUN, "--no-captions", "--presets", "exact", "--max-seconds", "0", "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["cases"] == []
    assert [left["name"] for left in result["not_measured"]] == ["image 64x32, batch 1", "image 64x32, batch 2"]


def test_a_batch_that_does_not_fit_the_memory_is_not_timed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(random_transformer(TINY), TINY)
    requests = image_case(TINY, (64, 32), 2, 2).build(2, _CPU)
    _limit_tokens(subject.transformer, requests[0].num_tokens, monkeypatch)
    assert subject.run_engine(requests[:1]).num_steps == 2
    with pytest.raises(torch.OutOfMemoryError, match="2 requests"):
        subject.run_engine(requests)


def test_a_batch_that_does_not_fit_the_memory_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(random_transformer(TINY), TINY)
    small, large = image_case(TINY, (64, 32), 2, 1), image_case(TINY, (128, 128), 2, 2)
    _limit_tokens(subject.transformer, 300, monkeypatch)
    out = tmp_path / "gpu.json"
    gpu.GpuBenchmark(subject, {"repeats": 1}, end_s=time.perf_counter() + 600, out=out).run([large, small])
    result = json.loads(out.read_text())
    assert [left["name"] for left in result["not_measured"]] == [large.name]
    assert [case["name"] for case in result["cases"]] == [small.name]


def test_times_of_shortened_runs_are_scaled_by_operations() -> None:
    case = image_case(TINY, (64, 64), 8, 2)
    counting = Counting(TINY)
    short, whole = (counting.engine(case.build(steps, _CPU)).total for steps in (2, 8))
    report = CaseReporter(TINY, peak=1e9).report(case, _timing(case, steps=2, seconds=3.0))
    assert report["is_extrapolated"]
    assert report["seconds_per_unit"] == pytest.approx(3.0 / 2 * whole / short, rel=0.05)
    assert report["plain_seconds_per_unit"] == pytest.approx(3.0 * 8 / 2)
    engine = report["engine"]
    assert isinstance(engine, dict)
    assert engine["mfu"] == pytest.approx(short / 3.0 / 1e9, rel=0.05)


def test_times_of_whole_runs_are_not_scaled() -> None:
    case = caption_case(TINY, 32, 1)
    report = CaseReporter(TINY, peak=None).report(case, _timing(case, steps=case.num_steps, seconds=3.0))
    assert (report["is_extrapolated"], report["seconds_per_unit"], report["speedup"]) == (False, 3.0, 1.0)


def test_reports_are_made_without_running_the_engine_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of a CPU's time for each case, while a GPU waits."""
    cases = [image_case(TINY, (64, 64), 8, 4, preset) for preset in PRESETS.values()]
    cases += [caption_case(TINY, 32, 2, preset) for preset in PRESETS.values()]
    timed = [(case, _timing(case, steps=case.min_steps(), seconds=3.0)) for case in cases]

    def refuse(*_: object) -> None:
        raise AssertionError("an engine was made")

    monkeypatch.setattr("dimoo_core.engine.engine.Engine.__init__", refuse)
    reporter = CaseReporter(TINY, peak=None)
    for case, timing in timed:
        assert float(str(reporter.report(case, timing)["seconds_per_unit"])) > 0


def test_memory_for_caches_is_asked_for_once_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def budget(_transformer: Transformer, _tokens: object, max_step_tokens: int) -> int:
        asked.append(max_step_tokens)
        return 10**9

    monkeypatch.setattr("benchmarks.timing.cache_budget", budget)
    monkeypatch.setattr("dimoo_core.engine.engine.cache_budget", budget)
    subject = Subject(random_transformer(TINY), TINY)
    requests = image_case(TINY, (64, 32), 2, 2).build(2, _CPU)
    for _ in range(2):
        subject.run_engine(requests)
    assert asked == [sum(request.num_tokens for request in requests) + 1]


@pytest.mark.parametrize(("budget_s", "num_steps"), [(0.0, 4), (5.0, 4), (8.0, 8), (11.9, 8), (1e9, 16)])
def test_a_case_takes_as_many_whole_blocks_of_steps_as_fit(budget_s: float, num_steps: int) -> None:
    assert caption_case(TINY, 32, 1).steps_within(budget_s, seconds_per_step=1.0) == num_steps


def test_every_case_of_one_batch_size_comes_before_those_of_the_next() -> None:
    cases = cases_in_order(
        TINY,
        sizes=[(64, 64), (32, 32)],
        num_steps=2,
        image_batches=[1, 4],
        caption_batches=[1, 16, 32],
        caption_image_px=32,
        presets=[find_preset(name) for name in ("exact", "reference-cache", "fast")],
    )
    of_exact, of_cache = ["exact", "exact", "exact"], ["reference-cache"] * 2
    assert [case.batch for case in cases] == [*[1] * 8, *[4, 4, 16], *[4, 4], *[4, 4, 16], *[32, 32]]
    assert [case.preset for case in cases] == [
        *(*of_exact, *of_cache, "fast", "fast", "fast"),
        *(*of_exact, *of_cache, "fast", "fast", "fast"),
        *("exact", "fast"),
    ]
    assert {case.unit for case in cases if case.preset == "reference-cache"} == {"image"}


def test_the_plain_run_of_a_case_has_none_of_its_approximations() -> None:
    for case in (image_case(TINY, (32, 32), 4, 2, PRESETS["fast"]), caption_case(TINY, 32, 2, PRESETS["fast"])):
        (request, _), plain = case.build(case.num_steps, _CPU), case.build_plain(case.num_steps, _CPU)
        exact = PRESETS["exact"]
        kind = exact.image if case.unit == "image" else exact.text
        assert plain.settings == kind(request.settings) != request.settings  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A800-SXM4-80GB", 312.0),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_the_peak_is_that_of_the_named_device(name: str, tflops: float | None) -> None:
    assert peak_flops(name) == (None if tflops is None else tflops * 1e12)


def test_random_weights_give_finite_logits_and_answers_without_an_end() -> None:
    transformer = random_transformer(TINY, dtype=torch.bfloat16)
    hidden = torch.randn(500, TINY.config.hidden_size, dtype=torch.bfloat16)
    logits = transformer.logits(hidden, TINY.tokens.vocabulary_columns)
    assert logits.isfinite().all()
    ends = torch.tensor([TINY.tokens.answer_end, TINY.tokens.end_of_text, TINY.tokens.mask])
    assert not torch.isin(logits.argmax(-1), ends).any()


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (random_transformer(TINY, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head, other.head)


def test_a_result_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_result(path, {"a": 1})
    write_result(path, {"b": [2]})
    assert json.loads(path.read_text()) == {"b": [2]}
    assert list(tmp_path.iterdir()) == [path]
