"""The reference page says what the schemas say."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import JobSpec

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_reference.py"))


def test_the_page_is_what_the_schemas_say(generator: dict[str, Any]) -> None:
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == generator["page"](), "run: python docs/make_reference.py"


def test_every_meaning_is_of_something_that_exists(generator: dict[str, Any]) -> None:
    assert set(generator["SPEC_MEANINGS"]) == {key for key, _ in generator["spec_fields"](JobSpec)}
    assert set(generator["OUTPUT_MEANINGS"]) == set(generator["DONE_SCHEMA"].names)
    assert set(generator["FAILURE_MEANINGS"]) == set(generator["FAILURE_SCHEMA"].names)


def test_the_columns_of_a_part_are_all_in_the_page_about_outputs(generator: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
    names = [*generator["DONE_SCHEMA"].names, *generator["FAILURE_SCHEMA"].names]
    assert [name for name in names if f"`{name}`" not in text] == []
