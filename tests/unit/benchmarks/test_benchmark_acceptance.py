"""Acceptance of a checkpoint: its parts without a clone of the official implementation, and whole where one is."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.acceptance.__main__ import main
from benchmarks.acceptance.budget import TimeBudget, fair_share
from benchmarks.acceptance.difference import Difference, StepWatch
from benchmarks.acceptance.inputs import Inputs, compare_sequences
from benchmarks.acceptance.likeness import likeness
from benchmarks.acceptance.noise import ReplayedNoise
from benchmarks.acceptance.outcome import Comparison, Tokens, agreement, compare_answers
from benchmarks.acceptance.page import page
from benchmarks.acceptance.result import failures
from benchmarks.acceptance.row import Workload
from benchmarks.acceptance.subject import find_subject, random_bytes
from benchmarks.acceptance.turn import EngineTurn, ReferenceTurn
from benchmarks.shape import TINY
from dimoo_core.decoding.base import StepTrace
from dimoo_core.errors import ConfigError
from dimoo_core.presets import PRESETS
from dimoo_core.request.builder import RequestLayout
from dimoo_core.settings import ImageSettings, TextSettings

_CLONE = os.environ.get("LUMINA_DIMOO_CLONE")
_CPU = torch.device("cpu")
_WORKLOAD = Workload(sizes=((64, 64), (96, 64)), input_size=(64, 64), num_steps=6, answer_tokens=16)
_TOKENS = TINY.tokens
needs_clone = pytest.mark.skipif(
    _CLONE is None, reason="LUMINA_DIMOO_CLONE names no clone of the official implementation"
)
of_the_clone = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _ids(*ids: int) -> Tensor:
    return torch.tensor(ids)


# --- rows


def test_every_task_comes_before_any_is_repeated_and_names_are_unique() -> None:
    rows = _WORKLOAD.rows(24)
    tasks = ["text to image", "edit", "caption", "inpaint", "control", "subject", "style", "question", "outpaint"]
    assert [row.task for row in rows[:9]] == tasks
    assert {"dense prediction", "multi-view"} <= {row.task for row in rows[:12]}
    assert len({row.name for row in rows}) == 24
    assert len({row.seed for row in rows}) == 24
    assert rows[12].task == "text to image"
    assert rows[12].prompt != rows[0].prompt


def test_rows_ask_for_the_guidance_of_the_reference_s_scripts() -> None:
    drawn, edited = _WORKLOAD.rows(2)
    assert isinstance(drawn.settings, ImageSettings)
    assert isinstance(edited.settings, ImageSettings)
    assert (drawn.settings.cfg_scale, drawn.settings.cfg_image_scale) == (4.0, 0.0)
    assert (edited.settings.cfg_scale, edited.settings.cfg_image_scale) == (2.5, 4.0)


# --- the time limit


def test_a_row_that_does_not_fit_its_turn_s_share_is_refused_with_both_times() -> None:
    clock = Clock()
    budget = TimeBudget(100.0, {"a": {"x": 30.0, "y": 30.0}, "b": {"x": 30.0, "y": 30.0}}, clock)
    budget.begin("a", {"x", "y"})
    assert budget.refusal("x") is None
    clock.now_s += 40
    budget.ran("x", 40.0)
    assert budget.refusal("y") == "about 40 s more, and 10 s were left for a"
    clock.now_s = 200.0
    budget.begin("b", {"x"})
    assert budget.refusal("x") == "about 30 s more, and 0 s were left for b"


def test_rows_that_an_earlier_turn_left_out_leave_their_time_to_the_others() -> None:
    clock = Clock()
    budget = TimeBudget(90.0, {"a": {"x": 10.0, "y": 50.0}, "b": {"x": 10.0, "y": 10.0}}, clock)
    budget.begin("a", {"x"})  # half of the time, since b can run x only
    clock.now_s += 44
    budget.ran("x", 1.0)
    assert budget.refusal("x") is None
    clock.now_s += 2
    assert budget.refusal("x") is not None


def test_turns_that_need_little_leave_the_rest_to_the_others_evenly() -> None:
    assert fair_share(200, [10, 5, 400], 115) == 50
    assert fair_share(400, [10, 5, 200], 115) == 50
    assert fair_share(10, [5, 200, 400], 115) == 50
    assert fair_share(10, [20, 90], 180) == 60
    assert fair_share(90, [20, 10], 180) == 135
    assert fair_share(0, [0], 60) == 30


def test_the_first_row_of_a_turn_may_take_the_whole_time_that_is_left() -> None:
    budget = TimeBudget(50.0, {"a": {"x": 40.0}, "b": {"x": 40.0}}, Clock())
    budget.begin("a", {"x"})
    assert budget.refusal("x") is None


# --- tokens


def test_an_answer_is_compared_as_far_as_both_decided_it() -> None:
    mask, end = _TOKENS.mask, _TOKENS.answer_end
    stopped = compare_answers(_ids(1, end, 3, 4), _ids(1, end, mask, mask), _TOKENS)
    assert (stopped.num_tokens, stopped.num_equal, stopped.are_equal) == (2, 2, True)
    unexplained = compare_answers(_ids(1, 2, 3, 4), _ids(1, 2, mask, mask), _TOKENS)
    assert not unexplained.are_equal
    too_long = compare_answers(_ids(1, end, mask, mask), _ids(1, end, 3, 4), _TOKENS)
    assert not too_long.are_equal
    assert not compare_answers(_ids(mask, mask), _ids(mask, mask), _TOKENS).are_equal


def test_what_one_answer_has_beyond_the_other_differs() -> None:
    assert agreement(_ids(1, 2, 3, 4), _ids(1, 2)) == Tokens(num_tokens=4, num_equal=2)


def _compared(dtype: str, difference: Difference | None, num_equal: int) -> Comparison:
    return Comparison(
        dtype=dtype,
        row="01 edit",
        task="edit",
        tokens=Tokens(num_tokens=16, num_equal=num_equal),
        difference=difference,
        reference_s=1.0,
        engine_s=0.5,
        likeness=None,
        answers=None,
        picture=None,
    )


def test_only_one_close_call_in_float32_is_rounding() -> None:
    close = Difference(step=3, num_positions=2, closest=1e-5, widest=0.4)
    assert _compared("float32", None, 16).verdict == "equal"
    assert _compared("float32", close, 9).verdict == "rounding"
    assert _compared("float32", replace(close, closest=0.01), 9).verdict == "differs"
    assert _compared("float32", replace(close, num_positions=9), 9).verdict == "differs"
    assert _compared("float32", None, 9).verdict == "differs"
    assert _compared("bfloat16", close, 9).verdict == "differs"


class TestWatch:
    """The first difference between the engine's steps and the reference's states."""

    request = RequestLayout(TINY.tokenizer(), _TOKENS).understanding(
        "row", "what", [], TextSettings(max_tokens=4, block_length=4), ReplayedNoise(0, _CPU, torch.float32)
    )

    def _trace(self, step: int, read: Tensor, committed: Tensor, logits: Mapping[int, float]) -> StepTrace:
        logits_MV = torch.zeros(len(read), 12)
        for column, value in logits.items():
            logits_MV[:, column] = value
        confidence = torch.tensor([0.9, 0.8, 0.5, 0.4], dtype=torch.float64)[: len(read)]
        return StepTrace(
            step=step,
            read=read,
            logits=logits_MV,
            sampled_ids=logits_MV.argmax(-1),
            confidence=confidence,
            committed=committed,
        )

    def _watch(self, *states: tuple[int, ...]) -> StepWatch:
        first = torch.full((4,), _TOKENS.mask)
        noise = ReplayedNoise(0, _CPU, torch.float32)
        *before, final = [torch.tensor(state) for state in states]
        return StepWatch(self.request, _TOKENS, noise, [first, *before], final)

    def test_equal_steps_have_none(self) -> None:
        watch = self._watch((5, 5, _TOKENS.mask, _TOKENS.mask), (5, 5, 5, 5))
        watch.see(self._trace(0, torch.arange(4), torch.tensor([0, 1]), {5: 2.0}))
        watch.see(self._trace(1, torch.tensor([2, 3]), torch.tensor([2, 3]), {5: 2.0}))
        assert watch.difference is None
        assert watch.target.tolist() == [5, 5, 5, 5]

    def test_other_ids_are_as_far_as_their_scores(self) -> None:
        watch = self._watch((5, 7, _TOKENS.mask, _TOKENS.mask), (5, 7, 5, 5))
        watch.see(self._trace(0, torch.arange(4), torch.tensor([0, 1]), {5: 2.0, 7: 1.75}))
        assert watch.difference == Difference(step=0, num_positions=1, closest=0.25, widest=0.25)

    def test_other_positions_are_as_far_as_their_confidences(self) -> None:
        watch = self._watch((5, _TOKENS.mask, 5, _TOKENS.mask), (5, 5, 5, 5))
        watch.see(self._trace(0, torch.arange(4), torch.tensor([0, 1]), {5: 2.0}))
        assert watch.difference is not None
        assert watch.difference.num_positions == 2
        assert watch.difference.closest == pytest.approx(torch.tensor(0.8 / 0.5).log().item())

    def test_the_first_one_stays(self) -> None:
        watch = self._watch((5, 7, _TOKENS.mask, _TOKENS.mask), (5, 7, 7, 7))
        watch.see(self._trace(0, torch.arange(4), torch.tensor([0, 1]), {5: 2.0, 7: 1.5}))
        watch.see(self._trace(1, torch.tensor([2, 3]), torch.tensor([2, 3]), {5: 2.0}))
        assert watch.difference is not None
        assert (watch.difference.step, watch.difference.closest) == (0, 0.5)


def test_codes_of_images_are_counted_and_everything_else_must_be_equal() -> None:
    code = _TOKENS.image_offset
    check = compare_sequences({"cond": [1, code, code + 1]}, {"cond": [1, code, code + 2]}, _TOKENS)
    assert (check.is_equal, check.equal_codes, check.num_codes) == (True, 0.5, 2)
    assert not compare_sequences({"cond": [1, code]}, {"cond": [2, code]}, _TOKENS).is_equal
    assert not compare_sequences({"cond": [1, code]}, {"cond": [1]}, _TOKENS).is_equal
    assert not compare_sequences({"cond": [1]}, {"cond": [1], "uncond": [1]}, _TOKENS).is_equal


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_is_drawn_in_the_type_of_the_reference(dtype: torch.dtype) -> None:
    noise = ReplayedNoise(7, _CPU, dtype)
    drawn = noise.uniform(0, "sample", (3, 5), rows=torch.tensor([2]), dtype=torch.float32)
    theirs = torch.rand((1, 3, 5), generator=torch.Generator().manual_seed(7), dtype=dtype)
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn, theirs[0, 2:].float())
    assert torch.equal(noise.latest["sample"], theirs[0].float())


def test_equal_images_have_no_psnr_and_noise_lowers_both_numbers() -> None:
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    assert likeness(image, image.copy()).psnr_db is None
    dark = likeness(image, image.point(lambda value: value // 2))
    light = likeness(image, image.point(lambda value: max(0, value - 3)))
    assert light.psnr_db is not None
    assert dark.psnr_db is not None
    assert light.psnr_db > dark.psnr_db > 0
    assert 1 > light.ssim > dark.ssim
    assert light.max_difference == 3


# --- the page


def _result(**changes: Any) -> dict[str, Any]:
    differs = {
        "row": "01 edit",
        "task": "edit",
        "dtype": "float32",
        "verdict": "differs",
        "must_be_equal": True,
        "tokens": {"num_tokens": 2000, "num_equal": 1999, "share": 0.9995},
        "difference": {"step": 4, "num_positions": 7, "closest": 0.25, "widest": None},
        "reference_s": 2.0,
        "engine_s": 1.0,
        "likeness": {"psnr_db": 30.0, "ssim": 0.9, "max_difference": 9},
        "answers": None,
        "picture": "01-edit-float32.png",
    }
    result: dict[str, Any] = {
        "model": "weights",
        "is_random": True,
        "reference": "81344e6 (unmodified)",
        "device": "a GPU",
        "torch": "2",
        "commit": None,
        "took_s": 90.0,
        "settings": {"dtypes": ["float32"], "rows": 2, "steps": 6},
        "expected": {"total_s": 120.0},
        "ids": {
            "special": {"mask": {"id": 5, "token": "<|mask|>"}},
            "prompts": {"<system>": None},
            "image_offset": 9,
            "num_codes": 8,
            "reference_offset": 9,
            "offsets_in_words": "listed: 9",
            "first_code_token": None,
            "last_code_token": None,
        },
        "reference_ids": {"mask": 5, "image_offset": 9},
        "sequences": [{"row": "01 edit", "task": "edit", "is_equal": True, "equal_codes": 0.5, "num_codes": 4}],
        "comparisons": [differs],
        "presets": [],
        "turns": [{"turn": "exact in float32", "load_s": 1.0, "peak_bytes": None}],
        "runs": [{"turn": "exact in float32", "row": "01 edit", "seconds": 1.0}],
        "left_out": [{"turn": "exact in float32", "row": "02 style", "reason": "about 9 s more, and 1 s were left"}],
    } | changes
    return result | {"failures": failures(result)}


def test_the_page_says_what_differs_and_never_rounds_up_to_all() -> None:
    text = page(_result())
    assert "**Not accepted**" in text
    assert "- 01 edit: differs in float32 from step 5 on, 1999 of 2000 tokens are equal" in text
    assert "| edit | float32 | 0 of 1 |  | 1,999 of 2,000 (99.9%) | step 5, 7 positions | 0.25 to far |" in text
    assert "| edit | 1 of 1 | 2 of 4 |" in text
    assert "![01 edit](01-edit-float32.png)" in text


def test_the_page_names_rows_that_were_left_out_and_says_that_weights_are_random() -> None:
    text = page(_result(comparisons=[]))
    assert "**Accepted**" in text
    assert "1 rows were left out" in text
    assert "| exact in float32 | 02 style | about 9 s more, and 1 s were left |" in text
    assert "The weights are random" in text
    assert "No row was compared." in text
    assert "The weights are random" not in page(_result(is_random=False))


def test_tokens_on_the_page_are_no_tags() -> None:
    assert "| mask | 5 | 5 | &lt;&#124;mask&#124;&gt; |" in page(_result())


def test_a_sequence_that_is_laid_out_in_another_way_is_a_failure_in_every_type() -> None:
    sequences = [{"row": "01 edit", "task": "edit", "is_equal": False, "equal_codes": None, "num_codes": 0}]
    found = failures(_result(sequences=sequences, comparisons=[]))
    assert found == ["01 edit: the reference lays its sequence out in another way"]


# --- arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "toaster"], "--device must be such as cuda, cuda:1 or cpu, got 'toaster'"),
        (["--dtypes", "float32,int4"], "--dtypes must be of bfloat16, float16, float32, got 'int4'"),
        (["--rows", "0"], "--rows must be at least 1, got 0"),
        (["--minutes", "0"], "--minutes must be above 0, got 0"),
        (["--answer", "6"], "--answer must be a multiple of 4 of at least 4 tokens, got 6"),
        (["--sizes", "64"], "sizes are such as 512x512,768x512, got --sizes 64 --input 512x512"),
        (["--sizes", "100x64"], "width must be a multiple of 16"),
        (["--presets", "quick"], "preset must be one of"),
        ([], "is no clone of the reference: it has no module 'config'"),
    ],
)
def test_wrong_arguments_end_with_status_2_and_name_the_value(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--model", "random-small", "--device", "cpu", "--reference", str(tmp_path), "--out", str(tmp_path / "o")]
    assert main([*common, *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_random_weights_that_do_not_fit_the_disk_are_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10**9})()
    monkeypatch.setattr("benchmarks.acceptance.subject.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match=r"random-8b takes 16\.2 GB on disk, .* has 1\.0 GB free"):
        find_subject("random-8b", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_random_weights_take_the_bytes_that_are_told(tmp_path: Path) -> None:
    subject = find_subject("random-small", tmp_path)
    written = sum(path.stat().st_size for path in subject.directory.glob("*.safetensors"))
    assert subject.is_random
    assert random_bytes("random-small") == pytest.approx(written, rel=0.01)


def test_it_is_imported_without_what_a_bare_machine_lacks() -> None:
    absent = ["ray", "boto3", "botocore", "pyarrow", "psutil", "pydantic", "typer", "rich", "diffusers", "torchmetrics"]
    code = f"import sys\nfor name in {absent}: sys.modules[name] = None\nimport benchmarks.acceptance.__main__ as m\n"
    call = "sys.exit(m.main(['--model', 'random-small', '--reference', '.', '--device', 'cpu']))"
    done = subprocess.run([sys.executable, "-c", code + call], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "images are compared by torchmetrics: pip install torchmetrics" in done.stderr


# --- with a clone


@needs_clone
@of_the_clone
def test_both_implementations_agree_on_every_task(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--model", "random-small", "--reference", str(_CLONE), "--device", "cpu", "--rows", "12", "--steps", "3"]
    sizes = ["--sizes", "64x64,96x64", "--input", "64x64", "--answer", "8", "--presets", "exact,fast"]
    assert main([*options, *sizes, "--minutes", "10", "--out", str(out)]) == 0
    result = json.loads((out / "acceptance.json").read_text())
    assert [one["verdict"] for one in result["comparisons"]] == ["equal"] * 12
    assert [one["is_equal"] for one in result["sequences"]] == [True] * 12
    assert {one["equal_codes"] for one in result["sequences"]} == {None, 1.0}
    assert all(one["likeness"]["max_difference"] <= 1 for one in result["comparisons"] if one["likeness"])
    assert (result["left_out"], result["failures"]) == ([], [])
    assert {one["preset"] for one in result["presets"]} == {"fast"}
    pictures = [one["picture"] for one in result["comparisons"] if one["picture"]]
    assert len(pictures) == 10
    assert all((out / name).stat().st_size > 0 and name in (out / "acceptance.md").read_text() for name in pictures)


@needs_clone
@of_the_clone
def test_an_answer_at_which_the_reference_breaks_off_is_compared_up_to_there(tmp_path: Path) -> None:
    directory = find_subject("random-small", tmp_path).directory
    inputs = Inputs(directory, _CPU, (64, 64))
    question = next(row for row in _WORKLOAD.rows(9) if row.task == "question")
    whole = EngineTurn(directory, inputs, _CPU, "float32").run(question, PRESETS["exact"], None)
    weights = load_file(directory / "model.safetensors")
    head = weights["model.transformer.ff_out.weight"]
    head[inputs.tokens.end_of_text] = 2 * head[int(whole.ids[5])]  # in the second of four blocks
    save_file(weights, directory / "model.safetensors", {"format": "pt"})

    theirs = ReferenceTurn(Path(str(_CLONE)), directory, inputs, _CPU, "float32").run(question)
    ours = EngineTurn(directory, inputs, _CPU, "float32").run(question, PRESETS["exact"], theirs)
    assert inputs.tokens.end_of_text in theirs.ids.tolist()
    assert inputs.tokens.mask in theirs.ids.tolist()
    assert torch.equal(ours.ids, theirs.ids)
    assert compare_answers(theirs.ids, ours.ids, inputs.tokens).are_equal


@needs_clone
@of_the_clone
def test_weights_that_differ_are_found_and_end_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = find_subject("random-small", tmp_path).directory
    load = EngineTurn.__init__

    def load_other(self: EngineTurn, checkpoint: Path, *arguments: Any) -> None:
        weights = load_file(directory / "model.safetensors")
        weights["model.transformer.blocks.1.ff_out.weight"] *= 1.5
        save_file(weights, directory / "model.safetensors", {"format": "pt"})
        load(self, checkpoint, *arguments)

    monkeypatch.setattr(EngineTurn, "__init__", load_other)
    options = ["--model", str(directory), "--reference", str(_CLONE), "--device", "cpu", "--rows", "1", "--steps", "4"]
    sizes = ["--sizes", "64x64", "--input", "64x64", "--presets", "exact", "--out", str(tmp_path / "out")]
    assert main([*options, *sizes]) == 1
    assert "01 text to image 64x64: differs in float32 from step" in capsys.readouterr().err
    assert "**Not accepted**" in (tmp_path / "out" / "acceptance.md").read_text()
