"""``dimoo-batch manifest build --dedupe exact``: rows that ask for the same thing, and files with the same bytes."""

from pathlib import Path

import pytest

from jobs.manifest.transform import RecordBuilder
from tests.support.manifest_build import build, column, told, write
from tests.support.manifest_rows import encoded, picture

CAPTION = ("--task", "caption")


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose bytes are looked at."""
    names: list[str] = []
    digest_of = RecordBuilder._file_digest

    def noted(builder: RecordBuilder, uri: str) -> str:
        names.append(uri.rpartition("/")[2])
        return digest_of(builder, uri)

    monkeypatch.setattr(RecordBuilder, "_file_digest", noted)
    return names


def test_copies_of_an_image_are_left_out_of_a_folder_and_only_equal_sizes_are_read(read: list[str]) -> None:
    image, other = encoded(picture(1)), encoded(picture(2, (96, 96)))
    Path("photos/more").mkdir(parents=True)
    for name, data in {"a.png": image, "b.png": other, "c.png": image, "more/d.png": image}.items():
        Path("photos", name).write_bytes(data)
    Path("photos/e.png").write_bytes(image[:-1] + b"x")
    report = build("photos", *CAPTION, "--dedupe", "exact")
    assert (report["rows"], report["duplicates"]) == (3, 2)
    assert column("image") == ["photos/a.png", "photos/b.png", "photos/e.png"]
    assert sorted(read) == ["a.png", "c.png", "d.png", "e.png"]
    assert told("photos", *CAPTION, "--dedupe", "exact").startswith(
        "3 rows (3 caption) in 1 file, 2 duplicates left out\n"
    )


def test_the_same_image_with_another_question_is_no_duplicate() -> None:
    Path("photos").mkdir()
    for name in ("a.png", "b.png"):
        Path("photos", name).write_bytes(encoded(picture(1)))
    build("photos", "--task", "vqa", "--prompt", "Is it {what}?", "--var", "what=red,blue", "--dedupe", "exact",
          "--to", "elsewhere/m.parquet")  # fmt: skip
    assert column("prompt", "elsewhere/m.parquet") == ["Is it red?", "Is it blue?"]
    assert {Path(image).name for image in column("image", "elsewhere/m.parquet")} == {"a.png"}


def test_that_there_is_no_duplicate_is_told() -> None:
    source = write("p.txt", "a\nb\n")
    assert "2 rows (2 text_to_image) in 1 file, 0 duplicates left out\n" in told(
        source, "--task", "text_to_image", "--dedupe", "exact"
    )
    assert "1 row (1 text_to_image) in 1 file\n" in told(source, "--task", "text_to_image", "--limit", "1")
