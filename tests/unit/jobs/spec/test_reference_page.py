"""The reference page says what the schemas say."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from jobs.report.facts import RunFactSheet
from jobs.report.page_html import page_html
from jobs.report.statistics import RunStatistics
from jobs.spec.spec import JobSpec
from pipeline.output.directory import RunDirectory
from pipeline.storage.local import LocalStore
from tests.support.command import REPOSITORY
from tests.support.in_process import run_here
from tests.support.manifest_rows import image_row, write_manifest
from tests.support.stub_model import use_stub_model


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "docs" / "make_reference.py"))


def test_the_page_is_what_the_schemas_say(generator: dict[str, Any]) -> None:
    written = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == generator["page"](), "run: python docs/make_reference.py"


def test_every_meaning_is_of_something_that_exists(generator: dict[str, Any]) -> None:
    assert set(generator["SPEC_MEANINGS"]) == {key for key, _, _ in generator["spec_fields"](JobSpec, None)}
    assert set(generator["OUTPUT_MEANINGS"]) == set(generator["DONE_SCHEMA"].names)
    assert set(generator["FAILURE_MEANINGS"]) == set(generator["FAILURE_SCHEMA"].names)


def test_the_settings_of_a_report_have_the_names_of_the_page(
    generator: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stub_model(monkeypatch)
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a")])
    run_here(manifest, tmp_path / "out", Path("stub"), preset="fast", task="text_to_image", limit=1)
    description = RunDirectory(LocalStore(str(tmp_path / "out"))).description()
    assert description is not None
    facts = RunFactSheet(description, is_complete=True)
    settings = dict(facts.settings())
    assert settings.keys() <= generator["SPEC_MEANINGS"].keys()
    assert (settings["text_to_image.steps"], settings["preset"], settings["limit"]) == ("2", "fast", "1")
    page = page_html(facts, RunStatistics(), [], []).decode()
    assert "<dt>text_to_image.steps</dt><dd>2</dd>" in page


def test_the_columns_of_a_part_are_all_in_the_page_about_outputs(generator: dict[str, Any]) -> None:
    text = (REPOSITORY / "docs" / "output.md").read_text(encoding="utf-8")
    names = [*generator["DONE_SCHEMA"].names, *generator["FAILURE_SCHEMA"].names]
    assert [name for name in names if f"`{name}`" not in text] == []
