"""``dimoo-batch manifest build`` from tables whose columns are not what a task needs, or that are not UTF-8."""

import json
from pathlib import Path

import pytest

from tests.support.manifest_build import build, column, write

DRAWING = ("--task", "text_to_image")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message(*arguments: object) -> str:
    return str(build(*arguments, exit_code=2)["message"])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("promt", "found 'promt': did you mean that? If so, give --rename 'promt=prompt'"),
        ("Prompt", "found 'Prompt': did you mean that? If so, give --rename 'Prompt=prompt'"),
        ("PROMPT,note", "found 'PROMPT': did you mean that?"),
        ("Prompt;category", "found 'Prompt;category': semicolons separate the columns, so save the table with commas"),
        (
            "prompt\tcategory",
            "found 'prompt\\tcategory': columns are separated by tabs, so rename the file to end with .tsv",
        ),
        ("caption,note", "found caption, note: give --prompt, or a column 'prompt', or --rename NAME=prompt"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--skip-invalid",)])
def test_a_column_that_is_not_there_is_told_once_for_all_rows(header: str, words: str, more: tuple[str, ...]) -> None:
    source = write("p.csv", f"{header}\na boat\na cat\n")
    told = message(source, *DRAWING, *more)
    assert f"p.csv: no column 'prompt', which task 'text_to_image' needs; {words}" in told
    assert "--skip-invalid" not in told


def test_commas_in_a_table_of_tabs_are_told() -> None:
    source = write("p.tsv", "prompt,note\na boat,1\n")
    assert "columns are separated by commas, so rename the file to end with .csv" in message(source, *DRAWING)


def test_cells_beyond_a_header_of_another_delimiter_say_which() -> None:
    source = write("p.csv", "prompt;note\na boat, red;1\n")
    assert "line 2: more cells than columns in the header; 'prompt;note' there: semicolons separate" in message(
        source, *DRAWING
    )


@pytest.mark.parametrize(
    ("task", "header", "words"),
    [
        ("caption", "image_path", "no column 'image' or 'images', which task 'caption' needs; found 'image_path'"),
        ("edit", "prompt", "no column 'image', which task 'edit' needs: give a column 'image'"),
        ("inpaint", "prompt,image,msk_box", "found 'msk_box': did you mean that? If so, give --rename 'msk_box=mask_"),
        ("detokenize", "note", "no column 'vq_codes', which task 'detokenize' needs; found note"),
    ],
)  # fmt: skip
def test_every_column_that_a_task_needs_is_looked_for(task: str, header: str, words: str) -> None:
    source = write("p.csv", f"{header}\n{','.join('x' for _ in header.split(','))}\n")
    assert words in message(source, "--task", task)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.csv", "prompt\na boat\n", "p.csv: no column 'task' and no --task: give --task, see dimoo-batch tasks"),
        ("q.csv", "Task,prompt\nvqa,a\n", "q.csv: no column 'task' and no --task; found 'Task': did you mean that?"),
        ("p.txt", "a boat\n", "p.txt: no column 'task' and no --task: give --task, see dimoo-batch tasks"),
    ],
)
def test_rows_of_no_task_need_the_option(name: str, text: str, words: str) -> None:
    told = message(write(name, text))
    assert words in told
    assert "--skip-invalid" not in told


def test_a_line_without_a_key_that_others_have_is_a_row_alone() -> None:
    source = write("p.jsonl", '{"note": "a"}\n{"prompt": "a boat"}\n{"prompt"\n')
    told = message(source, *DRAWING)
    assert "p.jsonl, line 1: prompt is null" in told
    assert "--skip-invalid" in told
    write("p.jsonl", '{"note": "a"}\n{"prompt": "a boat"}\n')
    assert build(source, *DRAWING, "--skip-invalid")["invalid"] == 1
    assert column("prompt") == ["a boat"]


def test_a_row_whose_own_task_needs_a_column_is_told_with_its_line() -> None:
    lines = [{"task": "caption", "image": "a.png"}, {"task": "text_to_image", "Prompt": "a boat"}]
    source = write("p.jsonl", "\n".join(map(json.dumps, lines)))
    told = message(source)
    assert "p.jsonl, line 2: no column 'prompt', which task 'text_to_image' needs; found 'Prompt'" in told
    assert "--skip-invalid" in told


def test_a_template_whose_name_no_row_has_is_not_to_be_skipped() -> None:
    told = message(write("p.csv", "place\nsea\n"), "--prompt", "{plaec}", *DRAWING)
    assert "the template needs 'plaec', which has no value; known: place, task: did you mean 'place'?" in told
    assert "--skip-invalid" not in told


@pytest.mark.parametrize("before", [1, 3000])
def test_a_line_that_is_not_utf_8_is_told_with_its_number(before: int) -> None:
    text = "prompt,note\n" + "a boat,ü\n" * before
    Path("p.csv").write_bytes(text.encode() + "a café,1\n".encode("latin-1"))
    assert message("p.csv", *DRAWING) == (
        f"dimoo-batch: p.csv, line {before + 2}: not text in UTF-8, the byte 0xe9 follows 'a caf': "
        "save the file as UTF-8\n"
    )


def test_utf_16_is_told_at_the_first_line() -> None:
    Path("p.csv").write_text("prompt\na boat\n", encoding="utf-16")
    assert "p.csv, line 1: not text in UTF-8" in message("p.csv", *DRAWING)


def test_a_table_made_for_the_references_scripts_says_which_columns_to_rename() -> None:
    source = write("p.csv", "edit_type,image,prompt,ref_image_path\nimage_ref_transfer,a.png,as it says,b.png\n")
    assert "found 'edit_type': did you mean that? If so, give --rename 'edit_type=task'" in message(source)
    told = message(source, "--rename", "edit_type=task")
    assert "no column 'style_image', which task 'image_ref_transfer' needs; found 'ref_image_path'" in told
    report = build(source, "--rename", "edit_type=task", "--rename", "ref_image_path=style_image")
    assert report["tasks"] == {"image_ref_transfer": 1}
    assert column("task") == ["image_ref_transfer"]


def test_the_task_of_every_row_may_have_a_name_of_the_reference() -> None:
    report = build(write("p.csv", "image\na.png\nb.png\n"), "--task", "sam2mask_dense")
    assert report["tasks"] == {"sam2mask_dense": 2}
    told = message(write("q.csv", "image\na.png\n"), "--task", "sam2mask-dense")
    assert "did you mean 'sam2mask_dense'?" in told
