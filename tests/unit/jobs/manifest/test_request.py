"""``dimoo-batch manifest build --set``: cells that every row gets."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.manifest_build import build, column, write
from tests.support.manifest_rows import encoded, picture


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("override", "cell"),
    [
        ("choices=[yes, no]", ["yes", "no"]),
        ("choices=[1, 2.50, null]", ["1", "2.50", "null"]),
        ("prompt=yes", "yes"),
        ("prompt=2024-01-01", "2024-01-01"),
        ("prompt=Which is it: a or b?", "Which is it: a or b?"),
        ("prompt='a: b'", "a: b"),
        ("max_tokens=8", 8),
        ("mood=calm", "calm"),
        ("is_new=yes", True),
    ],
)
def test_cells_of_text_stay_as_they_are_written(override: str, cell: Any) -> None:
    Path("a.png").write_bytes(encoded(picture()))
    source = write("rows.csv", "image,prompt\na.png,Is it red?\n")
    build(source, "--task", "vqa", "--set", override)
    assert column(override.partition("=")[0]) == [cell]


def test_a_column_that_is_given_the_type_of_text_is_text() -> None:
    source = write("p.csv", "prompt\na boat\n")
    build(source, "--task", "text_to_image", "--type", "is_new=string", "--set", "is_new=yes")
    assert column("is_new") == ["yes"]


def test_a_value_that_is_not_yaml_is_told_with_its_column() -> None:
    source = write("p.csv", "prompt\na boat\n")
    message = build(source, "--task", "text_to_image", "--set", "tags=[a", exit_code=2)["message"]
    assert "--set tags: '[a' is not a value in YAML" in message
