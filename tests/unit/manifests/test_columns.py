"""The reference page for people says what the code does."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.columns import COLUMNS
from manifests.errors import ManifestError, ManifestRowError
from manifests.row.captions import DETAILS, Captions
from manifests.row.parse import Row, parse_row, parse_rows
from manifests.row.settings import RowDefaults
from manifests.row.task_name import REFERENCE_TASKS
from manifests.schema import OUTPUT_COLUMNS, RESERVED_COLUMNS, check_schema
from manifests.tasks import KINDS, TASKS, Task
from tests.support.command import REPOSITORY

PAGE = (REPOSITORY / "docs" / "manifest.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> list[list[str]]:
    rows = [line.strip("| ").split(" | ") for line in section(title).splitlines() if line.startswith("|")]
    return rows[2:]


def test_the_column_table_is_the_one_in_the_code() -> None:
    assert table("Columns") == [
        [f"`{column.name}`", column.kind.accepted, column.meaning, column.default] for column in COLUMNS.values()
    ]


def _prompt_of(task: Task) -> str:
    if task.needs_prompt:
        return "required"
    words = f"`{task.default_prompt}`" if task.default_prompt else "not used"
    return f"always {words}" if task.keeps_words else words


def _image_of(task: Task) -> str:
    if not task.needs_image:
        return "not allowed"
    return "required, one or several" if task.takes_images else "required"


@pytest.mark.parametrize(("title", "tasks"), [("Tasks", TASKS), ("Names of the reference", REFERENCE_TASKS)])
def test_the_task_table_is_the_one_in_the_code(title: str, tasks: Mapping[str, Task]) -> None:
    assert table(title) == [
        [
            f"`{task.name}`",
            task.meaning,
            _image_of(task),
            _prompt_of(task),
        ]
        for task in tasks.values()
    ]


def test_the_settings_of_each_kind_of_task_are_listed() -> None:
    words = " ".join(section("Tasks").split())
    for kind, names in ((kind, known.settings) for kind, known in KINDS.items()):
        if kind == "encoding":
            assert names == ()
            continue
        *first, last = (f"`{name}`" for name in names)
        result = {
            "image": "an image",
            "image_to_image": "an image from an image",
            "style": "an image in a style",
            "views": "views",
            "turns": "an image in turns",
            "painting": "an image under a mask",
            "text": "text",
            "score": "a score",
            "decoding": "an image of codes",
        }[kind]
        assert f"asks that make {result} take {', '.join(first)} and {last}" in words


def test_the_requests_for_captions_are_those_in_the_code() -> None:
    captions = Captions()
    requests = [(name, captions.request(name)) for name in DETAILS]
    assert table("Captions") == [
        [f"`{name}`", f"`{request.prompt}`", str(request.max_tokens)] for name, request in requests
    ]


def test_the_reserved_output_columns_are_listed() -> None:
    sentence = section("Extra columns").split("uses itself:")[1].split(".")[0]
    assert sorted(re.findall(r"`(\w+)`", sentence)) == sorted((*OUTPUT_COLUMNS, *RESERVED_COLUMNS))


def test_the_pyarrow_snippet_writes_a_manifest_without_a_wrong_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", section("Write one"), re.DOTALL)
    pyarrow_snippet, pandas_snippet = snippets
    monkeypatch.chdir(tmp_path)
    exec(compile(pyarrow_snippet, "docs/manifest.md", "exec"), {})
    written = pq.read_table("manifest.parquet")
    check_schema(written.schema, defaults=RowDefaults())
    assert all(isinstance(row, Row) for row in parse_rows(written, 0, RowDefaults()))
    assert written.num_rows == 3
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.parquet"]
    compile(pandas_snippet, "docs/manifest.md", "exec")


def test_the_example_rows_fail_with_the_messages_shown() -> None:
    examples = table("Errors")
    assert len(examples) == 8
    for record, message in examples:
        with pytest.raises(ManifestRowError) as caught:
            parse_row(json.loads(record.strip("`")), 0, RowDefaults())
        assert str(caught.value) == message


def test_the_example_schema_fails_with_the_message_shown() -> None:
    shown = re.findall(r"```text\n(.*?)```", section("Errors"), re.DOTALL)[0]
    with pytest.raises(ManifestError) as caught:
        check_schema(
            pa.schema({"promt": pa.string(), "width": pa.string()}), defaults=RowDefaults(), uri="manifest.parquet"
        )
    assert str(caught.value) == " ".join(shown.split())
