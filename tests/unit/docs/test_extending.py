"""The walks of docs/extending.md: their modules are there, and their examples work as they say."""

import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from jobs.spec import result_keys
from pipeline.protocol import settings
from pipeline.protocol.settings import CropSettings, ImageFormat, ResultSettings
from tests.support.command import REPOSITORY
from tests.support.in_process import run_here
from tests.support.manifest_rows import image_row, write_manifest

PAGE = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+[\w.]*)`", PAGE))))
def test_a_path_of_the_walks_is_there(path: str) -> None:
    assert (REPOSITORY / path).exists()


def test_no_walk_has_more_steps_than_promised() -> None:
    walks = {
        walk.partition("\n")[0]: len(re.findall(r"^\d\. ", walk, re.MULTILINE)) for walk in PAGE.split("\n## ")[1:]
    }
    most = {"A setting that decides results": 3, "A task of a new kind": 4, "An image format": 2, "A form of export": 2}
    assert all(walks[name] <= number for name, number in most.items()), walks


def test_a_new_setting_is_a_key_of_run_json_and_of_the_spec_without_more(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Crop(CropSettings):
        padded: bool = False

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Results(ResultSettings):
        tokenize: Crop = Crop()

    sections = {field.name: field.default for field in fields(Results) if field.name in result_keys._SECTIONS}
    monkeypatch.setattr(result_keys, "ResultSettings", Results)
    monkeypatch.setattr(result_keys, "_SECTIONS", sections)
    monkeypatch.setitem(result_keys.SPEC_KEYS, "tokenize_padded", "tokenize.padded")
    changed = Results(device="cpu", dtype="float32", tokenize=Crop(padded=True))
    values = result_keys.values_of(changed)
    assert values["tokenize_padded"] is True
    assert result_keys.settings_from(values) == changed
    assert result_keys.key_as_set("tokenize_padded") == "tokenize.padded"


def test_the_key_of_a_section_is_made_of_the_names_of_section_and_field() -> None:
    for name, key in result_keys.SPEC_KEYS.items():
        if key.startswith(("image.", "tokenize.", "image_to_image.")):
            assert name == key.replace(".", "_")


def test_a_format_is_one_record(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another record in the place of WebP's: what a run writes is by it alone."""
    record = ImageFormat(".img", "image/x-test", has_quality=False, bytes_per_pixel=1.0)
    monkeypatch.setitem(settings.IMAGE_FORMATS, "webp", record)  # type: ignore[misc]
    manifest = write_manifest(tmp_path / "m.parquet", [image_row("a", width=32, height=32, steps=1)])
    run_here(manifest, tmp_path / "out", tiny_checkpoint, image={"format": "webp"})
    assert [path.suffix for path in (tmp_path / "out" / "images").rglob("*") if path.is_file()] == [".img"]
