import shlex
from pathlib import Path

import pytest

from dimoo_core.errors import ConfigError
from manifests.errors import ManifestError
from manifests.row.settings import RowDefaults
from pipeline.manifest import SHARD_SEGMENTS, ManifestSource, open_manifest
from pipeline.storage.errors import StoreError
from tests.support.manifest_rows import image_row, write_manifest


def opened(uri: object) -> ManifestSource:
    return open_manifest(str(uri), defaults=RowDefaults())


def write(path: Path, *ids: str) -> Path:
    return write_manifest(path, [image_row(row_id) for row_id in ids])


def test_one_file_is_a_manifest(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "m.parquet", "a", "b"))
    assert (len(source.files), source.num_rows) == (1, 2)
    assert source.repeated_ids() == {}


def test_the_files_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", "sub/c.parquet"):
        write(tmp_path / name, name)
    (tmp_path / "readme.txt").write_text("not a manifest")
    for uri in (tmp_path, f"{tmp_path}/", tmp_path.as_uri()):
        names = [Path(file.uri).name for file in opened(uri).files]
        assert names == ["a.parquet", "b.parquet", "c.parquet"]


def test_a_folder_may_be_named_like_a_file(tmp_path: Path) -> None:
    write(tmp_path / "m.parquet" / "part-0.parquet", "a")
    assert opened(tmp_path / "m.parquet").num_rows == 1


@pytest.mark.parametrize("name", ["gone.parquet", "gone", "empty", "readme.txt"])
def test_where_there_is_no_manifest_it_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "readme.txt").write_text("not a manifest")
    with pytest.raises(ManifestError, match=f"no manifest at .*{name}"):
        opened(tmp_path / name)


@pytest.mark.parametrize("name", ["rows.csv", "rows.JSONL", "two words.txt", "photos", "photos/"])
def test_where_a_manifest_can_be_built_it_is_said_how(name: str, tmp_path: Path) -> None:
    for there in ("rows.csv", "rows.JSONL", "two words.txt", "photos/a.png"):
        (tmp_path / there).parent.mkdir(exist_ok=True)
        (tmp_path / there).write_bytes(b"")
    with pytest.raises(ManifestError) as caught:
        opened(f"{tmp_path}/{name}")
    command, *words = shlex.split(str(caught.value).partition("build one: ")[2])
    assert command == "dimoo-batch"
    assert words == ["manifest", "build", f"{tmp_path}/{name}", "--task", "TASK", "--to", "manifest.parquet"]


@pytest.mark.parametrize("name", ["gone.csv", "gone", "notes.md"])
def test_of_what_is_not_there_or_no_source_no_manifest_can_be_built(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("not a manifest")
    with pytest.raises(ManifestError, match=r"nor a folder that holds one$"):
        opened(tmp_path / name)


def test_uris_of_other_kinds_are_refused() -> None:
    with pytest.raises((ConfigError, StoreError), match="cannot be opened, allowed: a local path"):
        opened("https://example.org/m.parquet")


def test_one_wrong_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "a")
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(ManifestError, match=r"b\.parquet is empty"):
        opened(tmp_path)


def test_ids_are_compared_over_all_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "x", "y")
    write(tmp_path / "b.parquet", "z", "x")
    assert opened(tmp_path).repeated_ids() == {3: 0}


def test_the_plan_depends_on_the_size_of_segments_and_the_limit(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "m.parquet", *map(str, range(300))))
    assert len(source.plan(segment_rows=1, limit=None)) == 300
    assert source.plan(segment_rows=1, limit=None).num_shards == -(-300 // SHARD_SEGMENTS)
    assert len(source.plan(segment_rows=7, limit=50)) == 8


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    first = opened(write(tmp_path / "one" / "m.parquet", "a")).fingerprint
    assert opened(write(tmp_path / "two" / "m.parquet", "a")).fingerprint == first
    assert opened(write(tmp_path / "three" / "m.parquet", "b")).fingerprint != first
