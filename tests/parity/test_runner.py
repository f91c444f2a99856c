"""The parity runner finds differences: it is only worth what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.__main__ import main
from tests.parity.checkpoints import Checkpoints
from tests.parity.golden import GOLDEN_DIRECTORY, Comparison, Golden, Mismatch, read_golden
from tests.parity.runner import RowResult, run_golden

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def checkpoints() -> Checkpoints:
    return Checkpoints()


@pytest.fixture(scope="module")
def load(golden_dir: Path) -> Callable[[str], Golden]:
    return lambda name: read_golden(golden_dir / GOLDEN_DIRECTORY / f"{name}.json")


def with_meta(golden: Golden, change: Change) -> Golden:
    meta = json.loads(json.dumps(golden.meta))
    change(meta)
    return replace(golden, meta=meta)


def with_tensor(golden: Golden, name: str, change: Callable[[Tensor], object]) -> Golden:
    tensor = golden.tensors[name].clone()
    change(tensor)
    return replace(golden, tensors=golden.tensors | {name: tensor})


def assert_failed(outcome: RowResult, detail: str) -> None:
    assert outcome.status == "FAILED", outcome
    assert detail in outcome.detail


@pytest.mark.parametrize(
    ("name", "change", "detail"),
    [
        ("t2i_inpaint", lambda meta: meta["steps"][1]["committed_ids"].__setitem__(0, 7), "step 1 committed_ids[0]"),
        ("t2i_inpaint", lambda meta: meta["steps"][2].update(keep_n=9), "step 2 keep_n: expected 9"),
        ("t2i_inpaint", lambda meta: meta["steps"][0].update(u_conf_sha256="0"), "step 0 u_conf_sha256"),
        ("t2i_inpaint", lambda meta: meta["steps"].pop(), "only 3 steps were recorded"),
        ("t2i_inpaint", lambda meta: meta["rng"].update(seed=1), "step 0 u_sample_sha256"),
        ("t2i_inpaint", lambda meta: meta["rng"].update(mode="dice"), "unknown rng mode 'dice'"),
        ("t2i_inpaint", lambda meta: meta["settings"].update(lucky=True), "unknown settings: lucky"),
        ("t2i_inpaint", lambda meta: meta.update(input_prompt="x"), "input_prompt"),
        ("text_2blocks", lambda meta: meta["steps"][3]["x0_at_active"].__setitem__(0, 7), "step 3 x0_at_active[0]"),
        ("text_2blocks", lambda meta: meta["generated_ids"].__setitem__(5, 7), "generated_ids[5]: expected 7"),
        ("text_2blocks", lambda meta: meta["steps"].pop(), "only 7 steps were recorded"),
        ("text_eos_emitted_block0", lambda meta: meta.pop("lm_head_override"), "step 0 x0_at_active[0]"),
        (
            "text_evalkit_single_mask",
            lambda meta: meta["steps"][5]["active_pos"].append(1),
            "step 5, not run, active_pos",
        ),
        ("layout_t2i", lambda meta: meta["cases"][1]["uncon_ids"].append(1), "case 1 unconditional sequence"),
        ("layout_i2i", lambda meta: meta["cases"][4].update(input_prompt="x"), "canny_dense input_prompt"),
        ("layout_i2i", lambda meta: meta["cases"][17]["uncon_image"].append(1), "image_ref_transfer uncon_image"),
        ("layout_i2i_full512", lambda meta: meta.update(code_start=7), "code_start: expected 7"),
        ("layout_paint", lambda meta: meta["cases"][4].update(dilate_latent_k=0), "case 4 mask_grid"),
        ("layout_paint", lambda meta: meta["cases"][2].update(lucky=True), "case 2 has unknown options: lucky"),
        ("i2i_edit_tau1", lambda meta: meta.update(edit_type="depth_control"), "input_prompt: expected"),
        ("errors", lambda meta: meta["cases"][0].update(exception=None), "the reference raises"),
        ("tokenizer", lambda meta: meta["cases"][2].update(decoded="x"), "case 2 decoded: expected 'x'"),
        (
            "sampling",
            lambda meta: meta["cosine_keep_n"][0]["keep_n"].__setitem__(0, 1),
            "cosine_keep_n of 16 in 4 steps[0]",
        ),
        ("preprocess", lambda meta: meta["sizes"][3]["t512"].update(box_halvings=9), "1920x1080 t512 box_halvings"),
    ],
)
def test_a_changed_record_is_found(
    load: Callable[[str], Golden], checkpoints: Checkpoints, name: str, change: Change, detail: str
) -> None:
    assert_failed(run_golden(with_meta(load(name), change), checkpoints), detail)


@pytest.mark.parametrize(
    ("name", "tensor", "detail"),
    [
        ("forward_batch2", "block1_out", "block1_out (tolerance 0.0001)[0, 0, 0]"),
        ("forward_batch2", "argmax_full", "argmax_full[0]"),
        ("forward_padding_quirk", "solo_cols", "solo_cols, short stream in a batch of 1"),
        ("t2i_inpaint", "step02.conf", "step02.conf"),
        ("t2i_inpaint", "step01.top8_vals", "step01.top8_vals"),
        ("t2i_inpaint", "step01.top8_ids", "step01.top8_ids"),
        ("t2i_inpaint", "final_x", "final_x[0]"),
        ("t2i_tau1_cfg4_fullnoise", "step01.u_sample", "step 1 u_sample[0, 0]"),
        ("text_2blocks", "step04.confidence", "step 4 confidence (tolerance 0.001)[0]"),
        ("vq_not_multiple_of_16", "ids", "ids[0, 0]"),
        ("vq_not_multiple_of_16", "tokens_with_breaks", "tokens_with_breaks[0]"),
        ("preprocess", "crop2.out_u8", "crop 2 out_u8[0, 0, 0]"),
        ("sampling", "topk0.still_masked", "topk0.still_masked[0]"),
    ],
)
def test_a_changed_number_is_found(
    load: Callable[[str], Golden], checkpoints: Checkpoints, name: str, tensor: str, detail: str
) -> None:
    def change(values: Tensor) -> None:
        first = values.view(-1)[:1]
        first.copy_(~first if values.dtype == torch.bool else first + (0.01 if values.is_floating_point() else 1))

    assert_failed(run_golden(with_tensor(load(name), tensor, change), checkpoints), detail)


def test_a_record_in_which_nothing_is_compared_fails(load: Callable[[str], Golden], checkpoints: Checkpoints) -> None:
    empty = with_meta(load("layout_t2i"), lambda meta: meta.update(cases=[]))
    assert_failed(run_golden(empty, checkpoints), "nothing was compared")


def test_a_golden_without_a_check_says_why(load: Callable[[str], Golden], checkpoints: Checkpoints) -> None:
    outcome = run_golden(with_meta(load("errors"), lambda meta: meta.update(kind="novel")), checkpoints)
    assert (outcome.status, outcome.detail) == ("unsupported", "kind 'novel' is not known")


NOVEL = "no check of the case 'novel'"


def test_a_case_of_errors_that_is_not_known_is_skipped_by_name(
    load: Callable[[str], Golden], checkpoints: Checkpoints
) -> None:
    outcome = run_golden(with_meta(load("errors"), lambda meta: meta["cases"][0].update(case="novel")), checkpoints)
    assert (outcome.status, outcome.skipped, outcome.num_skipped) == ("ok", (NOVEL,), 1)
    assert str(outcome).splitlines()[1] == f"unsupported errors: {NOVEL}"


def test_a_known_case_of_errors_beside_one_that_is_not_is_still_compared(
    load: Callable[[str], Golden], checkpoints: Checkpoints
) -> None:
    def change(meta: dict[str, Any]) -> None:
        meta["cases"][0].update(case="novel")
        meta["cases"][1].update(exception="ValueError")

    outcome = run_golden(with_meta(load("errors"), change), checkpoints)
    assert_failed(outcome, "every step a refresh step: the reference raises: expected False")
    assert outcome.skipped == (NOVEL,)


def test_errors_without_any_known_case_count_as_their_cases(
    load: Callable[[str], Golden], checkpoints: Checkpoints
) -> None:
    cases = [{"case": "novel", "exception": None}] * 2
    outcome = run_golden(with_meta(load("errors"), lambda meta: meta.update(cases=cases)), checkpoints)
    assert (outcome.status, outcome.skipped, outcome.num_skipped) == ("unsupported", (NOVEL, NOVEL), 2)
    none = run_golden(with_meta(load("errors"), lambda meta: meta.update(cases=[])), checkpoints)
    assert_failed(none, "nothing was compared")


def test_shapes_lengths_and_infinities_are_compared() -> None:
    comparison = Comparison()
    comparison.close("same", torch.tensor([1.0, -torch.inf]), torch.tensor([1.00005, -torch.inf]))
    comparison.equal("same", (1, 2), [1, 2])
    assert comparison.num_values == 4
    for got, expected, message in (
        (torch.zeros(2), torch.zeros(3), r"expected shape \(3,\), got \(2,\)"),
        (torch.tensor([torch.inf]), torch.tensor([-torch.inf]), "expected -inf, got inf"),
        (torch.tensor([torch.nan]), torch.tensor([0.0]), "expected 0.0, got nan"),
    ):
        with pytest.raises(Mismatch, match=message):
            Comparison().close("what", got, expected)
    with pytest.raises(Mismatch, match="expected 3 entries, got 2"):
        Comparison().equal("what", [1, 2], [1, 2, 3])


def test_the_command_prints_a_line_a_golden_and_the_totals(golden_dir: Path) -> None:
    command = [sys.executable, "-m", "tests.parity", str(golden_dir), "--kind", "sampling", "errors"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0].split() for line in lines[:-1]] == [["ok", "errors"], ["ok", "sampling"]]
    assert lines[-1] == "2 passed, 0 failed, 0 skipped"


def test_the_command_counts_a_case_that_is_not_known_as_skipped(
    golden_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = json.loads((golden_dir / GOLDEN_DIRECTORY / "errors.json").read_text())
    meta["cases"].append({"case": "novel", "exception": "ValueError"})
    (tmp_path / GOLDEN_DIRECTORY).mkdir()
    (tmp_path / GOLDEN_DIRECTORY / "errors.json").write_text(json.dumps(meta))
    (tmp_path / meta["checkpoint"]).symlink_to(golden_dir / meta["checkpoint"])
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"unsupported errors: {NOVEL}",
        "1 passed, 0 failed, 1 skipped",
    ]


def test_a_difference_makes_the_command_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / GOLDEN_DIRECTORY).mkdir()
    (tmp_path / GOLDEN_DIRECTORY / "broken.json").write_text("{")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("arguments", [["no-such-directory"], [".", "--kind", "no-such-kind"]])
def test_a_wrong_directory_or_kind_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "no goldens in" in (error := capsys.readouterr().err) or "unknown kind no-such-kind: known are" in error
