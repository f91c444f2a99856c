"""A file that cannot be read is told by what it is, with what to do."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dimoo_core.errors import WeightsError
from dimoo_core.files import check_file, read_json_object


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "is missing: it is needed"),
        (lambda path: path.write_bytes(b""), "is empty: download or copy it again"),
        (lambda path: path.mkdir(), "is a directory where a file must be: remove it"),
        (lambda path: path.symlink_to("gone"), "is a link to gone, which does not exist: download or copy"),
        (lambda path: path.symlink_to(path.name), "cannot be read (Too many levels of symbolic links): download"),
        (lambda path: os.mkfifo(path), "is not a regular file"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
            "is a git-lfs pointer, not the file itself: run 'git lfs pull' in the cloned repository, or download it",
        ),
    ],
    ids=["missing", "empty", "directory", "broken link", "loop", "pipe", "pointer"],
)
def test_a_file_that_cannot_be_read_is_told_by_what_it_is(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(WeightsError) as caught:
        check_file(path, if_missing="it is needed")
    assert str(caught.value).startswith(f"{path} {words}")


def test_a_file_and_a_link_to_one_are_readable(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text('{"a": 1}')
    (tmp_path / "link").symlink_to("blob")
    assert read_json_object(tmp_path / "link", if_missing="") == {"a": 1}


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without the rights of root, where the tests have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("locked", ["file", "directory"])
def test_a_file_without_the_right_to_read_it_is_named(locked: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own lie where nobody else may look
        directory = Path(name)
        path = directory / "config.json"
        path.write_text("{}")
        path.chmod(0 if locked == "file" else 0o644)
        directory.chmod(0o755 if locked == "file" else 0)
        try:
            with (
                as_somebody_else(),
                pytest.raises(WeightsError, match=r"config\.json cannot be read \(Permission denied\): give"),
            ):
                read_json_object(path, if_missing="")
        finally:
            directory.chmod(0o755)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"null", "must hold a JSON object, got NoneType"),
    ],
)
def test_json_that_is_no_object_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"x\.json {words}"):
        read_json_object(tmp_path / "x.json", if_missing="")
