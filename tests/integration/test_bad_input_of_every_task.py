"""What is wrong with a row is told with column, value and fix: each kind of mistake, in every task."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.tools.catalog import TaskEntry, task_entries
from manifests.columns import COLUMNS, IMAGE, NUMBER, TEXT, WHOLE
from manifests.errors import ManifestRowError
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from manifests.tasks import TASKS
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, picture

ENTRIES = {entry.name: entry for entry in task_entries()}
NAMES = list(ENTRIES)
WITH_IMAGE = [name for name, entry in ENTRIES.items() if "image" in entry.example]
WITH_PROMPT = [name for name, entry in ENTRIES.items() if "prompt" in entry.example]
SIZED = [name for name, entry in ENTRIES.items() if "width" in entry.optional]
MASKED = [name for name, entry in ENTRIES.items() if "mask_image" in entry.one_of]


def refusal(name: str, /, **changes: Any) -> str:
    with pytest.raises(ManifestRowError) as caught:
        parse_row(ENTRIES[name].example | changes, 0, RowDefaults())
    return str(caught.value)


def columns_of(entry: TaskEntry) -> list[str]:
    return [*entry.required, *entry.one_of, *entry.optional]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_task_needs_must_be_given(name: str) -> None:
    for column in ENTRIES[name].required:
        message = refusal(name, **{column: None})
        assert message.startswith(f"{column} is null")
        assert repr(name) in message


@pytest.mark.parametrize("name", MASKED)
def test_one_of_several_columns_must_be_given_and_no_more(name: str) -> None:
    given = dict.fromkeys(ENTRIES[name].one_of)
    assert refusal(name, **given).endswith(f"are null, task {name!r} needs one of them: give one")
    both = given | {"mask_ratio": [0.5, 0.5], "mask_box": [0, 0, 16, 16]}
    assert refusal(name, **both) == "mask_box and mask_ratio are given, a row has one mask: leave all but one null"


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_prompt_is_no_prompt(name: str) -> None:
    if "prompt" in columns_of(ENTRIES[name]):
        message = refusal(name, prompt=" ")
        assert message == "prompt must not be empty, got ' ': give text, or null for the default"


@pytest.mark.parametrize("name", NAMES)
def test_a_list_where_one_value_belongs_is_told_with_the_list(name: str) -> None:
    for column in columns_of(ENTRIES[name]):
        kind = COLUMNS[column].kind
        if kind is TEXT and column != "task":
            assert refusal(name, **{column: ["a", "b"]}) == f"{column} must be text, got ['a', 'b']"
        elif kind in (WHOLE, NUMBER):
            what = "whole" if kind is WHOLE else "finite"
            assert refusal(name, **{column: [1]}) == f"{column} must be one {what} number or null, got [1]"
        elif kind is IMAGE and column in (*ENTRIES[name].required, "image"):
            message = refusal(name, **{column: 3})
            assert message.startswith(f"{column} must be")
            assert "got 3" in message


@pytest.mark.parametrize("name", NAMES)
def test_a_size_is_a_multiple_of_16_where_there_is_one_and_refused_where_there_is_none(name: str) -> None:
    for column in ("width", "height"):
        message = refusal(name, **{column: 1000})
        if name in SIZED:
            assert message == f"{column} must be a multiple of 16 from 16 to 2048, got 1000"
        else:
            assert message == f"{column} is not used by task {name!r}, got 1000: leave it null"


@pytest.mark.parametrize("name", NAMES)
def test_of_an_unknown_task_the_nearest_is_suggested(name: str) -> None:
    for slip in (name.replace("_", "-"), name[:-1], name.upper()):
        if slip not in TASKS:
            message = refusal(name, task=slip)
            assert message.startswith(f"task must be one of {', '.join(TASKS)}, got {slip!r}")
            assert message.endswith(f" (did you mean {name!r}?)")


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """A manifest with every column that a row has."""
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)


def mask(size: tuple[int, int], mode: str = "L") -> bytes:
    return encoded(Image.new(mode, size, 255 if mode == "L" else (255, 255, 255)))


def wrong_files() -> list[tuple[dict[str, Any], tuple[str, ...]]]:
    """Rows whose mistakes show only when they are prepared, and what their failures say."""
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = []

    def case(name: str, mistake: str, *words: str, **changes: Any) -> None:
        good = {"image": encoded(picture(0, (48, 48)))} if name in WITH_IMAGE else {}
        cases.append(({**ENTRIES[name].example, **good, "id": f"{name}: {mistake}", **changes}, words))

    for name in WITH_IMAGE:
        case(name, "no image", "embedded image is not an image (9 bytes beginning with 3c 68", image=b"<html>404")
        case(name, "damaged image", "embedded image is damaged", image=encoded(picture(0, (48, 48)))[:-40])
        floats = encoded(Image.new("F", (48, 48)), "TIFF")
        case(name, "mode", "holds floating point numbers (mode F)", "store 8 or 16 bits", image=floats)
    for name in WITH_PROMPT:
        limit = "prompt is too long: the sequence must have at most 32768 tokens, got "
        case(name, "too long", limit, "shorten the prompt", prompt="a red hat " * 20_000)
        layout = "the prompt must not contain '<IMAGE>'"
        case(name, "layout", layout, prompt="a <IMAGE>")
    for name in MASKED:
        fixed = dict.fromkeys(ENTRIES[name].one_of)
        size = "embedded mask_image must be of the image's 48x48 pixels, got 64x48: resize it"
        case(name, "mask size", size, **fixed | {"mask_image": mask((64, 48))})
        mode = "embedded mask_image must be black and white or gray (mode 1 or L), got mode RGB: convert it"
        case(name, "mask mode", mode, **fixed | {"mask_image": mask((48, 48), "RGB")})
    return cases


def test_what_only_the_files_tell_is_a_failure_of_each_row_and_of_no_other(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    cases = wrong_files()
    rows = [row for row, _ in cases] + [{**ENTRIES["text_to_image"].example, "id": "good"}]
    write(rows, tmp_path / "m.parquet")
    summary = run_here(
        tmp_path / "m.parquet", tmp_path / "out", tiny_checkpoint, image_to_image={"resolution": 32, "steps": 1}
    )
    assert (summary.done, summary.failed) == (1, len(cases))
    failures = {row["id"]: row["message"] for row in ds.dataset(tmp_path / "out" / "_failures").to_table().to_pylist()}
    for row, words in cases:
        assert all(word in failures[row["id"]] for word in words), failures[row["id"]]


def test_a_file_that_is_not_there_is_named_in_every_task(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    rows = [{**ENTRIES[name].example, "id": name, "image": "photos/gone.png"} for name in WITH_IMAGE]
    write(rows, tmp_path / "m.parquet")
    summary = run_here(tmp_path / "m.parquet", tmp_path / "out", tiny_checkpoint)
    assert (summary.done, summary.failed) == (0, len(rows))
    for failure in ds.dataset(tmp_path / "out" / "_failures").to_table().to_pylist():
        assert failure["message"].startswith(f"cannot read {tmp_path}/photos/gone.png")
