import subprocess
import sys
from pathlib import Path

import pytest

from dimoo_core.errors import ConfigError
from manifests.redact import redact_uri
from pipeline.storage.errors import ObjectNotFound, StoreError
from pipeline.storage.reader import ObjectReader, open_store
from pipeline.storage.uri import Location, folder_of, is_relative, parse_uri, resolve_uri, split_uri


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("runs/one", Location("file", "", "runs/one")),
        ("/data/runs", Location("file", "", "/data/runs")),
        ("C:/data", Location("file", "", "C:/data")),
        ("file:///data/a%20b", Location("file", "", "/data/a b")),
        ("file://localhost/data", Location("file", "", "/data")),
        ("file:/data", Location("file", "", "/data")),
        ("s3://bucket", Location("s3", "bucket", "")),
        ("s3://bucket/", Location("s3", "bucket", "")),
        ("s3://bucket/a/../b/./c//d", Location("s3", "bucket", "b/c//d")),
        ("S3://bucket/a/b?c#d%20e", Location("s3", "bucket", "a/b?c#d%20e")),
    ],
)
def test_uris_are_taken_apart(uri: str, location: Location) -> None:
    assert parse_uri(uri) == location


def test_the_home_folder_may_be_abbreviated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse_uri("~/runs").path == "/home/someone/runs"


@pytest.mark.parametrize("uri", ["", "gs://bucket/x", "https://host/x", "s3:/bucket/x", "file://host/x", "a\0b"])
def test_other_uris_are_refused_with_the_allowed_ones(uri: str) -> None:
    for opening in (parse_uri, open_store):
        with pytest.raises(ConfigError, match=r"local path, file:///path or s3://bucket/prefix"):
            opening(uri)


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "s3://user:secret@bucket/key", "s3://-x/key", "s3://a b/key"])
def test_a_bucket_must_have_a_valid_name(uri: str) -> None:
    with pytest.raises(ConfigError, match="no valid bucket name") as caught:
        parse_uri(uri)
    assert "secret" not in str(caught.value)


def test_an_s3_path_cannot_leave_its_bucket() -> None:
    with pytest.raises(ConfigError, match="leaves its bucket"):
        parse_uri("s3://bucket/a/../../other")


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("s3://bucket/a/b/manifest.parquet", "s3://bucket/a/b"),
        ("s3://bucket/manifest.parquet", "s3://bucket"),
        ("data/manifest.parquet", "data"),
        ("manifest.parquet", "."),
        ("/manifest.parquet", "/"),
        ("file:///my%20data/manifest.parquet", "/my data"),
    ],
)
def test_relative_uris_start_at_the_folder(uri: str, folder: str) -> None:
    assert folder_of(uri) == folder


def test_relative_uris_are_told_from_absolute_ones() -> None:
    assert all(is_relative(uri) for uri in ("a.png", "../a.png", "./a:b.png", "images/a.png"))
    assert not any(
        is_relative(uri) for uri in ("/a.png", "~/a.png", "file:///a.png", "s3://bucket/a.png", "https://h/a")
    )


def test_a_relative_uri_is_joined_to_its_folder_and_another_stays() -> None:
    assert resolve_uri("s3://bucket/a/", "b.png") == "s3://bucket/a/b.png"
    assert resolve_uri("/", "b.png") == "/b.png"
    assert resolve_uri("/a", "s3://bucket/b.png") == "s3://bucket/b.png"


def test_passwords_and_signatures_never_reach_a_message() -> None:
    uri = "https://user:secret@host/key?X-Amz-Signature=secret"
    assert redact_uri(uri) == "https://host/key"
    with pytest.raises(ConfigError) as caught:
        open_store(uri)
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreError) as failed:
        ObjectReader().read(uri)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("uri", "root", "key"),
    [
        ("s3://bucket/images//a.png", "s3://bucket", "images//a.png"),
        ("images/a.png", "images", "a.png"),
        ("a.png", ".", "a.png"),
        ("/a.png", "/", "a.png"),
        ("../images/a.png", "../images", "a.png"),
        ("file:///data/a.png", "/data", "a.png"),
    ],
)
def test_an_object_is_split_into_root_and_key(uri: str, root: str, key: str) -> None:
    assert split_uri(uri) == (root, key)


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/folder/", "folder/", "/", ".", "folder/.."])
def test_a_folder_is_not_split(uri: str) -> None:
    with pytest.raises(ConfigError, match="names a folder"):
        split_uri(uri)


def test_a_reader_reads_local_files_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"pixels")
    monkeypatch.chdir(tmp_path)
    reader = ObjectReader()
    for uri in ("images/a.png", "./images//a.png", f"{tmp_path}/images/a.png", f"file://{tmp_path}/images/a.png"):
        assert reader.read(uri) == b"pixels"
        with reader.open(uri) as file:
            assert file.read() == b"pixels"
    with pytest.raises(ObjectNotFound):
        reader.read("images/b.png")


@pytest.mark.parametrize("uri", ["", "gs://bucket/a.png", "s3://bucket", "images/"])
def test_a_wrong_uri_of_a_row_is_no_error_of_the_spec(uri: str) -> None:
    with pytest.raises(StoreError) as caught:
        ObjectReader().read(uri)
    assert caught.value.code == "InvalidUri"
    assert not caught.value.retryable


def test_local_runs_do_not_import_boto3(tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.storage.reader import open_store; open_store(sys.argv[1]).put('key', b'x'); "
        "sys.exit(int('boto3' in sys.modules or 'botocore' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30).returncode == 0
