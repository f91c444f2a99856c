"""``dimoo-batch tasks``: what it lists is what the row parser takes."""

import json

from typer.testing import CliRunner

from jobs.cli import app
from jobs.tools.catalog import reference_entries, task_entries
from manifests.columns import COLUMNS
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from manifests.row.task_name import REFERENCE_TASKS, task_named
from manifests.tasks import TASKS
from tests.unit.jobs.test_cli import imported_after


def test_every_task_is_listed_with_a_row_that_asks_for_it() -> None:
    entries = task_entries()
    assert [entry.name for entry in entries] == list(TASKS)
    assert [entry.name for entry in reference_entries()] == list(REFERENCE_TASKS)
    for entry in [*entries, *reference_entries()]:
        assert entry.is_reference_name == (entry.name in REFERENCE_TASKS)
        assert parse_row(entry.example, 0, RowDefaults()).task == entry.name


def test_the_columns_listed_are_those_that_the_task_takes() -> None:
    for entry in [*task_entries(), *reference_entries()]:
        listed = [*entry.required, *entry.one_of, *entry.optional]
        assert len(set(listed)) == len(listed)
        assert set(listed) == set(COLUMNS) - set(task_named(entry.name).unused_columns)


def test_programs_get_json_and_people_get_lines() -> None:
    listed = CliRunner().invoke(app, ["tasks", "--json"])
    assert listed.exit_code == 0
    assert [entry["name"] for entry in json.loads(listed.stdout)] == [*TASKS, *REFERENCE_TASKS]
    shown = CliRunner().invoke(app, ["tasks"]).stdout
    assert "inpaint: regenerate the masked area" in shown
    assert "one of    mask_image, mask_box, mask_ratio" in shown
    assert "canny_dense: predict the canny edge map of the image; prompt is ignored (a name of the reference)" in shown
    assert "canny_pred: predict the canny edge map of the image\n" in shown


def test_examples_are_json_and_every_task_says_what_it_needs() -> None:
    shown = CliRunner().invoke(app, ["tasks"]).stdout.splitlines()
    examples = [json.loads(line.removeprefix("  example")) for line in shown if line.startswith("  example")]
    assert examples == [entry.example for entry in [*task_entries(), *reference_entries()]]
    needed = [line.removeprefix("  required").strip() for line in shown if line.startswith("  required")]
    assert len(needed) == len(TASKS) + len(REFERENCE_TASKS)
    assert all(needed)
    assert needed[list(TASKS).index("caption")] == "one of image, images"
    assert needed[list(TASKS).index("text_to_image")] == "prompt"


def test_help_has_examples() -> None:
    assert "dimoo-batch tasks --json | jq" in CliRunner().invoke(app, ["tasks", "--help"]).stdout


def test_the_list_needs_nothing_heavy() -> None:
    assert imported_after("import jobs.cli\ntry: jobs.cli.app(['tasks'])\nexcept SystemExit: pass") == set()
