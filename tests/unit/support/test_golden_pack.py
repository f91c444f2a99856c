"""Packed goldens restore byte for byte, or not at all."""

from pathlib import Path

import pytest

from tests.support.goldens import DamagedPack, pack, unpack


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Files of awkward lengths: no multiple of any number of byte planes."""
    root = tmp_path / "source"
    (root / "goldens").mkdir(parents=True)
    (root / "goldens" / "a.json").write_text("{}")
    (root / "goldens" / "a.safetensors").write_bytes(bytes(range(256)) * 3 + b"tail7by")
    (root / "goldens" / "b.json").write_text('{"b": 1}')
    (root / "tiny").mkdir()
    (root / "tiny" / "model.safetensors").write_bytes(b"")
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_was_packed_is_restored(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed")
    assert contents(unpack(tmp_path / "packed", tmp_path / "restored")) == contents(source)


def test_a_golden_can_be_left_out_and_what_it_stored_before_goes(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed")
    pack(source, tmp_path / "packed", without=["a"])
    restored = contents(unpack(tmp_path / "packed", tmp_path / "restored"))
    assert restored.keys() == {"goldens/b.json", "tiny/model.safetensors"}
    assert not list((tmp_path / "packed").rglob("a.*"))


def test_a_damaged_file_is_named(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed")
    (tmp_path / "packed" / "goldens" / "b.json").write_text('{"b": 2}')
    with pytest.raises(DamagedPack, match=r"cannot restore goldens/b\.json: goldens/b\.json is not what was packed"):
        unpack(tmp_path / "packed", tmp_path / "restored")
    (tmp_path / "packed" / "goldens" / "b.json").unlink()
    with pytest.raises(DamagedPack, match=r"cannot restore goldens/b\.json"):
        unpack(tmp_path / "packed", tmp_path / "restored")


def test_a_damaged_archive_is_named(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed")
    path = tmp_path / "packed" / "goldens" / "a.safetensors.xz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedPack, match=r"cannot restore goldens/a\.safetensors"):
        unpack(tmp_path / "packed", tmp_path / "restored")
