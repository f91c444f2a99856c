import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage.errors import AccessDenied, StoreError
from pipeline.storage.local import LocalStore
from pipeline.storage.reader import open_store
from tests.support.store_contract import StoreContract


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "runs" / "one"))


class TestLocalStore(StoreContract):
    pass


def fail_with(number: int) -> object:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def files_below(store: LocalStore) -> list[str]:
    return sorted(path.name for path in Path(store.uri).rglob("*") if path.is_file())


def test_opening_a_store_creates_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "new"))
    assert list(store.list()) == []
    assert store.size("key") is None
    assert not (tmp_path / "new").exists()


def test_relative_roots_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("out")
    monkeypatch.chdir("/")
    store.put("key", b"x")
    assert (tmp_path / "out" / "key").read_bytes() == b"x"
    assert store.uri == str(tmp_path / "out")


def test_checking_leaves_no_folder_behind(store: LocalStore) -> None:
    store.check_writable()
    assert list(Path(store.uri).iterdir()) == []


def test_no_temporary_file_stays_after_success_or_refusal(store: LocalStore) -> None:
    store.put("key", b"one")
    store.put_if_absent("key", b"two")
    store.put_if_absent("other", b"three")
    assert files_below(store) == ["key", "other"]


def test_new_files_follow_the_umask(store: LocalStore) -> None:
    old = os.umask(0o027)
    try:
        store.put("key", b"x")
    finally:
        os.umask(old)
    assert Path(store.uri_of("key")).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, StoreError, "the disk is full"),
        (errno.EROFS, StoreError, "read-only"),
        (errno.EACCES, AccessDenied, "check the owner and the mode"),
    ],
)
def test_a_disk_that_refuses_a_write_says_why_and_keeps_the_old_object(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StoreError], advice: str
) -> None:
    store.put("parts/key", b"old")
    monkeypatch.setattr(os, "fsync", fail_with(number))
    with pytest.raises(kind) as caught:
        store.put("parts/key", b"new")
    monkeypatch.undo()
    assert caught.value.code == errno.errorcode[number]
    assert not caught.value.retryable
    assert f"cannot write {store.uri}/parts/key: {errno.errorcode[number]} (" in str(caught.value)
    assert advice in str(caught.value)
    assert store.get("parts/key") == b"old"
    assert files_below(store) == ["key"]


def test_a_real_read_only_folder_is_refused_by_the_check(store: LocalStore) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may write anywhere")
    root = Path(store.uri)
    root.mkdir(parents=True, mode=0o500)
    with pytest.raises(AccessDenied, match="EACCES"):
        store.check_writable()


def test_a_file_system_without_hard_links_is_refused_by_the_check(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", fail_with(errno.EPERM))
    with pytest.raises(StoreError, match="hard links") as caught:
        store.check_writable()
    assert caught.value.code == "EPERM"
    assert files_below(store) == []


def test_a_file_in_the_place_of_a_folder_is_named(store: LocalStore) -> None:
    store.put("a", b"x")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StoreError, match="is a file, not a folder"):
            write("a/b", b"x")
        with pytest.raises(StoreError, match="is a file, not a folder"):
            write("a/b/c", b"x")


def test_a_name_that_is_too_long_is_refused(store: LocalStore) -> None:
    with pytest.raises(StoreError, match="ENAMETOOLONG"):
        store.put("x" * 300, b"x")


def test_a_folder_in_the_place_of_an_object_ends_in_an_error_not_a_loop(store: LocalStore) -> None:
    store.put("a/b", b"x")
    with pytest.raises(StoreError, match="EISDIR"):
        store.put("a", b"x")
    with pytest.raises(StoreError, match="ObjectFlickers"):
        store.put_if_absent("a", b"x")


KILLED_WRITER = """
import os, sys
from pipeline.storage.local import LocalStore
os.fsync = lambda descriptor: os.kill(os.getpid(), 9)
LocalStore(sys.argv[1]).put_if_absent("parts/1", b"half")
"""


def test_a_writer_killed_before_its_commit_leaves_nothing_to_see(store: LocalStore) -> None:
    store.put("parts/0", b"whole")
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, store.uri], check=False, timeout=30)
    assert killed.returncode == -signal.SIGKILL
    assert len(files_below(store)) == 2  # the leftover is there
    assert list(store.list()) == ["parts/0"]
    assert store.put_if_absent("parts/1", b"whole")
    assert set(store.list("parts/")) == {"parts/0", "parts/1"}
