import os
from pathlib import Path

import pytest

from dimoo_core.errors import ConfigError
from manifests.row.images import ImageSource
from pipeline.images.inputs import ImageFetcher
from pipeline.protocol.source_policy import SourcePolicy
from pipeline.storage.errors import AccessDenied, SourceRefused, StoreError
from tests.support.manifest_rows import encoded, picture

LOCAL_FILES = (
    "/etc/passwd",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "~/.aws/credentials",
    "FILE:/etc/passwd",
)
WEB_ADDRESSES = (
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://127.0.0.1:8265/api/jobs/",
    "http://localhost:9000/bucket/key",
    "http://0x7f000001/",
    "https://2852039166/latest/meta-data/",
    "ftp://10.0.0.1/a.png",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "data:image/png;base64,AAAA",
    "s3a://bucket/a.png",
    "unix:///var/run/docker.sock",
)


def refusal(policy: SourcePolicy, uri: str, manifest: str) -> str:
    with pytest.raises(SourceRefused) as caught:
        policy.check(uri, manifest)
    assert isinstance(caught.value, AccessDenied)
    assert not caught.value.retryable
    return str(caught.value)


@pytest.mark.parametrize("uri", LOCAL_FILES)
def test_a_manifest_in_a_bucket_names_no_files_of_this_machine_unless_allowed(uri: str) -> None:
    assert "set sources.local_files to true" in refusal(SourcePolicy(), uri, "s3://data/manifest")
    SourcePolicy(local_files=True).check(uri, "s3://data/manifest")
    SourcePolicy().check(uri, "/home/me/manifest")
    assert "sources.local_files is false" in refusal(SourcePolicy(local_files=False), uri, "/home/me/manifest")


def test_buckets_may_be_limited() -> None:
    policy = SourcePolicy(buckets=("photos", "masks"))
    policy.check("s3://photos/a.png", "s3://data/manifest")
    message = refusal(policy, "s3://payroll/a.png", "s3://data/manifest")
    assert message == (
        "cannot read s3://payroll/a.png: SourceRefused (sources.buckets allows photos, masks: add payroll to it)"
    )


def test_folders_may_be_limited_and_neither_dots_nor_links_lead_out(tmp_path: Path) -> None:
    inside, outside = tmp_path / "photos", tmp_path / "photos-of-others"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.png").write_bytes(b"x")
    (inside / "link.png").symlink_to(outside / "a.png")
    (inside / "folder").symlink_to(outside)
    policy = SourcePolicy(folders=(str(inside),))
    policy.check(str(inside / "a.png"), str(tmp_path))
    policy.check(f"{outside}/../photos/a.png", str(tmp_path))
    for name in ("../photos-of-others/a.png", "link.png", "folder/a.png", "../../etc/passwd"):
        assert f"sources.folders allows {inside}" in refusal(policy, f"{inside}/{name}", str(tmp_path))


@pytest.mark.parametrize("uri", WEB_ADDRESSES)
def test_no_row_makes_this_machine_ask_a_web_server(uri: str, tmp_path: Path) -> None:
    """Whatever the address, and however it is spelt: only two schemes are read."""
    fetcher = ImageFetcher(SourcePolicy(local_files=True))
    for folder in ("s3://data/manifest", str(tmp_path)):
        with pytest.raises((StoreError, ConfigError)) as caught:
            fetcher.fetch(ImageSource(uri=uri, name=uri), folder)
        assert isinstance(caught.value, StoreError)
        assert not caught.value.retryable
    fetcher.close()


@pytest.mark.parametrize("uri", ["s3://data/../../etc/passwd", "s3://../x", "s3:///etc/passwd"])
def test_a_bucket_is_not_left(uri: str) -> None:
    fetcher = ImageFetcher(SourcePolicy())
    with pytest.raises(StoreError) as caught:
        fetcher.fetch(ImageSource(uri=uri, name=uri), "s3://data/manifest")
    assert caught.value.code == "InvalidUri"


def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    """Reading them would never end, or never begin."""
    os.mkfifo(tmp_path / "pipe")
    fetcher = ImageFetcher(SourcePolicy())
    for path in ("/dev/zero", str(tmp_path / "pipe"), "/dev/stdin"):
        with pytest.raises(StoreError) as caught:
            fetcher.fetch(ImageSource(uri=path, name=path), str(tmp_path))
        assert caught.value.code in ("NotAFile", "ENXIO", "ENOENT")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    data = encoded(picture(0))
    (tmp_path / "a.png").write_bytes(data)
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    fetcher = ImageFetcher(SourcePolicy(max_bytes=len(data)))
    assert fetcher.fetch(ImageSource(uri="a.png", name="a.png"), str(tmp_path)).size == (72, 48)
    with pytest.raises(StoreError, match=f"TooLarge .it has {2**40} bytes, allowed are {len(data)}"):
        fetcher.fetch(ImageSource(uri="sparse.png", name="sparse.png"), str(tmp_path))
    fetcher.close()
