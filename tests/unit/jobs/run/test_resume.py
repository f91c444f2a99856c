"""What a start does with an output that holds a run with other settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.errors import ConfigError
from jobs.run.resume import ResumeOptions, output_of_new_run
from jobs.spec.result_keys import key_as_set
from pipeline.output.directory import RunDirectory
from pipeline.storage.local import LocalStore

RESULTS: dict[str, Any] = {
    "manifest_fingerprint": "a",
    "seed": 0,
    "segment_rows": 4,
    "versions": {"torch": "2.8", "pillow": "11"},
}


def run_at(folder: Path, results: dict[str, Any] = RESULTS, rows: int = 10) -> RunDirectory:
    run = RunDirectory(LocalStore(str(folder)))
    run.start({"results": results, "rows": rows})
    return run


def check(choice: ResumeOptions, run: RunDirectory, num_rows: int = 10, **changed: Any) -> list[str]:
    found = run.description()
    assert found is not None
    return choice.check({**RESULTS, **changed}, num_rows, found, run)


def test_nothing_has_to_be_accepted_where_nothing_differs(tmp_path: Path) -> None:
    assert check(ResumeOptions(), run_at(tmp_path)) == []


def test_what_differs_is_refused_with_both_values_and_the_ways_out(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check(ResumeOptions(), run, seed=3, segment_rows=8)
    message = str(caught.value)
    assert "seed: 0 there, 3 now" in message
    assert "pipeline.segment_rows: 4 there, 8 now" in message
    assert "--new-run" in message
    assert "--accept-change" not in message  # it would be refused because of the segments
    with pytest.raises(
        ConfigError, match="continue with --accept-change seed, or start a new run beside it with --new-run"
    ):
        check(ResumeOptions(), run, seed=3)


def test_a_retry_is_told_no_way_that_it_has_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check(ResumeOptions(is_retry=True), run_at(tmp_path), manifest_fingerprint="b")
    message = str(caught.value)
    assert "the manifest has changed: 10 rows then, 10 now)" in message
    assert "(--manifest, --model) or continue with --accept-change manifest_fingerprint" in message
    assert "--output" not in message
    assert "--new-run" not in message


def test_a_key_is_named_and_accepted_as_it_is_set(tmp_path: Path) -> None:
    there = {**RESULTS, "defaults": {"text_to_image": {"num_steps": 16, "width_px": 512}}, "input_resolution": 512}
    now = {**there, "defaults": {"text_to_image": {"num_steps": 64, "width_px": 512}}, "input_resolution": 1024}
    run = run_at(tmp_path, there)
    found = run.description()
    assert found is not None
    with pytest.raises(ConfigError) as caught:
        ResumeOptions().check(now, 10, found, run)
    assert "(text_to_image.steps: 16 there, 64 now; understanding.resolution: 512 there, 1024 now)" in str(caught.value)
    for names in (
        ("text_to_image.steps", "understanding.resolution"),
        ("defaults.text_to_image.num_steps", "input_resolution"),
        ("text_to_image", "understanding"),
    ):
        assert len(ResumeOptions(accepted=names).check(now, 10, found, run)) == 2


def test_what_an_earlier_start_has_accepted_is_accepted(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    found = run.description()
    assert found is not None
    run.note_changes(found, check(ResumeOptions(accepted=("manifest_fingerprint",)), run, manifest_fingerprint="b"))
    assert len(check(ResumeOptions(), run, manifest_fingerprint="b")) == 1
    assert check(ResumeOptions(), run) == []
    with pytest.raises(ConfigError, match="the manifest has changed"):
        check(ResumeOptions(), run, manifest_fingerprint="c")


def test_a_key_that_does_not_exist_is_refused_with_the_nearest(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    with pytest.raises(ConfigError, match=r"--accept-change manifest_fingerprnt: .*; did you mean 'manifest_fing"):
        check(ResumeOptions(accepted=("manifest_fingerprnt",)), run)
    with pytest.raises(
        ConfigError, match=r"--accept-change foo: .*; known: engine, hooks, manifest_fingerprint, pipeline, seed, v"
    ):
        check(ResumeOptions(accepted=("seed", "foo")), run)
    assert check(ResumeOptions(accepted=("hooks", "engine.compile")), run) == []


def test_only_what_was_named_is_accepted(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    assert check(ResumeOptions(accepted=("seed",)), run, seed=3) == ["seed: 0 there, 3 now"]
    newer = {"torch": "2.9", "pillow": "12"}
    assert len(check(ResumeOptions(accepted=("versions",)), run, versions=newer)) == 2
    with pytest.raises(ConfigError, match=r"versions\.pillow: '11' there, '12' now"):
        check(ResumeOptions(accepted=("versions.torch", "seed")), run, versions=newer)


@pytest.mark.parametrize("key", ["segment_rows", "limit", "image_format"])
def test_what_names_parts_and_images_cannot_be_accepted(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot continue with changed {key_as_set(key)}"):
        check(ResumeOptions(accepted=(key,)), run_at(tmp_path), **{key: 8})


def test_a_changed_manifest_can_be_accepted_if_it_keeps_its_number_of_rows(tmp_path: Path) -> None:
    choice, run = ResumeOptions(accepted=("manifest_fingerprint",)), run_at(tmp_path)
    assert len(check(choice, run, manifest_fingerprint="b")) == 1
    with pytest.raises(ConfigError, match="a run of 10 rows, the manifest has 11 now"):
        check(choice, run, num_rows=11, manifest_fingerprint="b")


def test_accepted_changes_are_noted_once_and_the_results_stay(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    for _ in range(2):
        found = run.description()
        assert found is not None
        run.note_changes(found, ["seed: 0 there, 3 now"])
    described = json.loads((tmp_path / "run.json").read_text())
    assert described == {"results": RESULTS, "rows": 10, "accepted_changes": ["seed: 0 there, 3 now"]}


def test_a_new_run_takes_the_first_output_that_is_free_or_its_own(tmp_path: Path) -> None:
    base = str(tmp_path / "out")
    other = {**RESULTS, "seed": 3}
    assert output_of_new_run(base, RESULTS) == base
    run_at(tmp_path / "out", other)
    LocalStore(str(tmp_path / "out-2")).put("parts/0000000-00000.parquet", b"of nobody knows whom")
    assert output_of_new_run(base + "/", RESULTS) == base + "-3"
    run_at(tmp_path / "out-3", {**RESULTS, "segment_rows": 9})
    assert output_of_new_run(base, RESULTS) == base + "-3"
    assert output_of_new_run(base, other) == base
