"""Exports to the folders that evaluators of public benchmarks read, looked at the way these do."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, picture
from tests.support.run_output import RunOutput

SIDE = 32
MODEL = "tiny"


@pytest.fixture(scope="module", autouse=True)
def _one_model() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        load_models_once(patch)
        yield


class Benchmark:
    """One prompt set, run and exported; rows are its finished ones by ``benchmark_item``."""

    def __init__(self, folder: Path, model: Path, name: str, source: str, *options: str) -> None:
        self._folder = folder
        self.images = folder / "exported"
        words = ["manifest", "build", source, "--from", name, "--to", str(folder / "m.parquet"), *options]
        invoke(*words)
        run_here(folder / "m.parquet", folder / "out", model, image_to_image={"resolution": SIDE, "steps": 2})
        output = RunOutput(folder / "out")
        assert output.failures() == []
        self.rows: dict[str, list[dict[str, Any]]] = {}
        for row in output.rows():
            self.rows.setdefault(row["benchmark_item"], []).append(row)
        invoke("export", str(folder / "out"), str(self.images), "--to", "benchmark", "--name", MODEL)

    @property
    def files(self) -> list[str]:
        return sorted(path.relative_to(self.images).as_posix() for path in self.images.rglob("*.*"))

    def made(self, item: str, sample: int = 0) -> bytes:
        """Pixels of a row's own result."""
        return pixels(self._folder / "out" / self.rows[item][sample]["output"])

    def exported(self, name: str) -> Image.Image:
        return Image.open(io.BytesIO((self.images / name).read_bytes()))


def invoke(*words: str) -> None:
    ended = CliRunner().invoke(app, list(words))
    assert ended.exit_code == 0, ended.output


def pixels(image: Image.Image | Path) -> bytes:
    opened = Image.open(io.BytesIO(image.read_bytes())) if isinstance(image, Path) else image
    return opened.convert("RGB").tobytes()


def cut(grid: Image.Image) -> list[bytes]:
    """The four samples of a picture, row by row, as evaluators cut it."""
    assert grid.size == (2 * SIDE, 2 * SIDE)
    corners = [(left, top) for top in (0, SIDE) for left in (0, SIDE)]
    return [pixels(grid.crop((left, top, left + SIDE, top + SIDE))) for left, top in corners]


def text(path: Path, words: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(words)
    return str(path)


def test_geneval_has_a_folder_for_each_prompt_with_its_metadata(tmp_path: Path, tiny_checkpoint: Path) -> None:
    metadata = {"tag": "colors", "include": [{"class": "kite", "count": 1, "color": "red"}], "prompt": "a red kite"}
    source = text(tmp_path / "evaluation_metadata.jsonl", f"{json.dumps(metadata)}\n" * 2)
    found = Benchmark(tmp_path, tiny_checkpoint, "geneval", source, "--repeat", "4")
    samples = [f"samples/{number:04d}.png" for number in range(4)]
    assert found.files == [f"0000{item}/{name}" for item in (0, 1) for name in ("metadata.jsonl", *samples)]
    assert json.loads((found.images / "00001/metadata.jsonl").read_text()) == metadata
    assert [pixels(found.exported(f"00001/{name}")) for name in samples] == [found.made("00001", n) for n in range(4)]


def test_dpg_bench_has_the_samples_of_an_item_in_one_picture(tmp_path: Path, tiny_checkpoint: Path) -> None:
    text(tmp_path / "prompts" / "12.txt", "a long scene")
    found = Benchmark(tmp_path, tiny_checkpoint, "dpg-bench", str(tmp_path / "prompts"), "--repeat", "4")
    assert found.files == ["12.png"]
    assert cut(found.exported("12.png")) == [found.made("12", number) for number in range(4)]


def test_oneig_has_lossless_grids_by_class_and_model(tmp_path: Path, tiny_checkpoint: Path) -> None:
    lines = ["category,id,prompt_en,type,prompt_length,class", "Anime_Stylization,000,a hero,T,short,None"]
    source = text(tmp_path / "OneIG-Bench.csv", "\n".join([*lines, "Portrait,003,a face,NP,long,fauvism"]) + "\n")
    found = Benchmark(tmp_path, tiny_checkpoint, "oneig-en", source, "--repeat", "4")
    assert found.files == ["anime/tiny/000.webp", "human/tiny/003.webp"]
    assert cut(found.exported("human/tiny/003.webp")) == [found.made("human/003", number) for number in range(4)]


def test_tiif_has_a_short_and_a_long_image_of_each_line(tmp_path: Path, tiny_checkpoint: Path) -> None:
    line = {"type": "2d_spatial", "short_description": "a cat below a kite", "long_description": "a long tale"}
    source = text(tmp_path / "2d.jsonl", json.dumps(line) + "\n")
    found = Benchmark(tmp_path, tiny_checkpoint, "tiif", source)
    assert found.files == ["2d_spatial/tiny/long_description/0.png", "2d_spatial/tiny/short_description/0.png"]
    for length in ("long_description", "short_description"):
        made = found.made(f"2d_spatial/{length}/0")
        assert pixels(found.exported(f"2d_spatial/tiny/{length}/0.png")) == made


def test_imgedit_has_each_edit_by_its_key(tmp_path: Path, tiny_checkpoint: Path) -> None:
    edits = {"1082": {"id": "animal/1.png", "prompt": "Make it blue.", "edit_type": "alter"},
             "97": {"id": "animal/1.png", "prompt": "Add a hat.", "edit_type": "add"}}  # fmt: skip
    source = text(tmp_path / "basic_edit.json", json.dumps(edits))
    (tmp_path / "originals" / "animal").mkdir(parents=True)
    (tmp_path / "originals" / "animal" / "1.png").write_bytes(encoded(picture(1, (64, 64))))
    found = Benchmark(tmp_path, tiny_checkpoint, "imgedit", source, "--images", str(tmp_path / "originals"))
    assert [name for name in found.files if not name.endswith("_SRCIMG.png")] == ["1082.png", "97.png"]
    assert pixels(found.exported("97.png")) == found.made("97")


def test_gedit_has_result_and_source_by_task_and_language(tmp_path: Path, tiny_checkpoint: Path) -> None:
    image = {"bytes": encoded(picture(1, (64, 48))), "path": "a.png"}
    item = {"task_type": "subject-remove", "key": "abc", "instruction": "Remove it.", "instruction_language": "en",
            "input_image": image, "input_image_raw": image, "Intersection_exist": True}  # fmt: skip
    pq.write_table(pa.Table.from_pylist([item]), tmp_path / "gedit.parquet")
    found = Benchmark(tmp_path, tiny_checkpoint, "gedit", str(tmp_path / "gedit.parquet"))
    stem = "fullset/subject-remove/en/abc"
    assert found.files == [f"{stem}.png", f"{stem}_SRCIMG.png"]
    assert pixels(found.exported(f"{stem}.png")) == found.made(stem)
    assert pixels(found.exported(f"{stem}_SRCIMG.png")) == pixels(picture(1, (64, 48)))
