"""What decides results is written once, as ``ResultSettings``, and ``run.json`` is its serialisation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dimoo_core.errors import ConfigError
from dimoo_core.settings import ImageSettings, ParallelCommit, StepCacheConfig, TargetCacheConfig, TextCacheConfig
from jobs.cli import app
from jobs.spec.result_keys import SPEC_KEYS, settings_from, values_of
from jobs.spec.spec import load_spec
from manifests.row.settings import RowDefaults
from pipeline.output.directory import RunDirectory
from pipeline.protocol.settings import CropSettings, HookSettings, ImageOutput, ResultSettings, UnderstandingInput
from pipeline.storage.local import LocalStore
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.stub_model import use_stub_model

PLAIN = ResultSettings(device="cpu", dtype="float32")


@pytest.mark.parametrize(
    "settings",
    [
        PLAIN,
        ResultSettings(
            device="cpu",
            dtype="bfloat16",
            seed=2**40,
            defaults=RowDefaults(
                task="caption",
                explicit_text_to_image=("step_cache",),
                text_to_image=ImageSettings(step_cache=TargetCacheConfig(), commit=ParallelCommit(bound=0.5)),
                image_to_image=ImageSettings(step_cache=StepCacheConfig(refresh_interval=4)),
                understanding=replace(RowDefaults().understanding, cache=TextCacheConfig(mode="prefix")),
            ),
            image_to_image=CropSettings(resolution="native", random_crop=True),
            understanding=UnderstandingInput(resolution="adaptive", match_question="Is it {prompt}?"),
            tokenize=CropSettings(resolution=64, random_crop=True),
            image=ImageOutput(format="webp", quality=50),
            batch_invariance="off",
            compile=True,
        ),
    ],
)
def test_what_run_json_has_is_read_back_as_it_was(settings: ResultSettings) -> None:
    assert settings_from(json.loads(json.dumps(values_of(settings)))) == settings


def test_hooks_are_read_back_unless_their_files_have_changed(tmp_path: Path) -> None:
    file = tmp_path / "hooks.py"
    file.write_text("def keep(row): return row\n")
    settings = replace(PLAIN, hooks=HookSettings(rows=(f"{file}:keep",)))
    values = values_of(settings)
    assert settings_from(values) == settings
    values["hooks"]["digests"] = dict.fromkeys(values["hooks"]["digests"], "another")
    with pytest.raises(ConfigError, match="has changed since the run: its file differs"):
        settings_from(values)


def test_every_key_of_a_section_is_one_of_the_job_spec() -> None:
    values = values_of(PLAIN)
    for name, key in SPEC_KEYS.items():
        assert name in values or key in ("engine.compile", "pipeline.segment_rows")
        load_spec(None, {"manifest": "m"}, [f"{key}={values[name]}"] if name in values else [])


def test_values_of_another_version_are_refused_by_name() -> None:
    values = values_of(PLAIN)
    values["defaults"]["text_to_image"]["shiny"] = True
    with pytest.raises(ConfigError, match=r"defaults\.text_to_image\.shiny"):
        settings_from(values)


def invoked(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize("words", [["run"], ["retry", "--class", "all"], ["replay"]])
def test_a_run_of_the_version_before_is_not_continued_but_can_be_read(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    manifest, output = write_manifest(tmp_path / "m.parquet", [image_row("a")]), tmp_path / "out"
    start = ["run", manifest, "--output", output, "--model", "stub", "--workers", "0"]
    assert invoked(*start).exit_code == 0
    run = RunDirectory(LocalStore(str(output)))
    description = dict(run.description() or {})
    description["results"]["versions"]["dimoo-batch"] = "0.1.0"
    (output / "run.json").write_text(json.dumps(description))
    name, *options = words
    arguments = {"run": start, "retry": ["retry", output, *options], "replay": ["replay", output, "a"]}[name]
    before = sorted(path.name for path in output.rglob("*"))
    refused = invoked(*arguments)
    assert refused.exit_code == 2
    assert "was started by dimoo-batch 0.1.0" in refused.stderr
    assert "pip install dimoo-batch==0.1.0" in refused.stderr
    assert sorted(path.name for path in output.rglob("*")) == before
    for reader in (["status"], ["export"]):
        assert invoked(*reader, output, *([tmp_path / "files"] if reader == ["export"] else [])).exit_code == 0


def test_what_the_version_before_recorded_is_read_and_written_as_it_is() -> None:
    """The file is of a run of 0.1.0."""
    recorded = json.loads(Path(__file__).with_name("run-0.1.0.json").read_text(encoding="utf-8"))["results"]
    beside = {"adapter_digest", "limit", "manifest_fingerprint", "model_digest", "presets", "segment_rows", "versions"}
    written = json.loads(json.dumps(values_of(settings_from(recorded))))
    assert written == {key: value for key, value in recorded.items() if key not in beside}
