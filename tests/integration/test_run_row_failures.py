"""Wrong rows are data: each ends in the failures with its reason, and every other row is done."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.in_process import check_one_line, command, run_here
from tests.support.manifest_rows import SCHEMA, encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

pytestmark = pytest.mark.usefixtures("loaded_once")

JPEG = encoded(picture(0, (300, 200)), "JPEG")
BAD_ROWS: list[tuple[dict[str, Any], str, str, str]] = [
    (image_row("task", task="draw"), "manifest", "ManifestRowError", "task must be one of"),
    (image_row("no task", task=None), "manifest", "ManifestRowError", "task is null"),
    (image_row("size", width=33), "manifest", "ManifestRowError", "width must be a multiple of 16"),
    (image_row("steps", steps=0), "manifest", "ManifestRowError", "steps must be"),
    (image_row("endless", steps=2_000_000_000), "manifest", "ManifestRowError", "steps must be at most 16384"),
    (text_row("huge", encoded(picture(0)), max_tokens=2_000_000_000), "manifest", "ManifestRowError", "at most 16384"),
    (image_row("mask", prompt="a <|mdm_mask|> b"), "prompt", "RequestError", "'<|mdm_mask|>'"),
    (text_row("answer", encoded(picture(0)), prompt="</answer>"), "prompt", "RequestError", "'</answer>'"),
    (image_row("no image", task="vqa"), "manifest", "ManifestRowError", "image is null"),
    (text_row("text", b"<html>404</html>"), "decode", "ImageUnreadable", "is not an image (16 bytes"),
    (text_row("cut", JPEG[: len(JPEG) // 2]), "decode", "ImageUnreadable", "embedded image is damaged"),
    (text_row("cut early", JPEG[:30]), "decode", "ImageUnreadable", "embedded image"),
    (text_row("missing", "photos/gone.png"), "fetch", "ObjectNotFound", "photos/gone.png"),
    (text_row("folder", "photos/"), "fetch", "StoreError", "photos/"),
    (text_row("web", "https://user:secret@example.org/a.png?sig=secret"), "fetch", "StoreError", "https://example.org"),
    (text_row("good 0", encoded(picture(9))), "manifest", "ManifestRowError", "'good 0' is already the id of row 0"),
]
CLASSES = {"ObjectNotFound": "not_found", "SourceRefused": "forbidden"}


def test_every_kind_of_bad_row_is_told_with_its_stage_and_reason(tiny_checkpoint: Path, tmp_path: Path) -> None:
    good = [text_row("good 0", encoded(picture(0))), image_row("good 1"), text_row("good 2", "photos/a.png")]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(encoded(picture(1)))
    rows = [good[0], *(row for row, *_ in BAD_ROWS[:7]), good[1], *(row for row, *_ in BAD_ROWS[7:]), good[2]]
    summary = run_here(write_manifest(tmp_path / "m.parquet", rows), tmp_path / "out", tiny_checkpoint)
    assert (summary.status, summary.exit_code) == ("done_with_failures", 3)
    assert (summary.done, summary.failed) == (3, len(BAD_ROWS))
    output = RunOutput(tmp_path / "out")
    output.check_complete(row["id"] for row in rows)
    assert sorted(output.by_id()) == ["good 0", "good 1", "good 2"]
    failures = output.failed_by_id()
    for row, stage, error_type, words in BAD_ROWS:
        failure = failures[row["id"]]
        assert (failure["stage"], failure["error_type"]) == (stage, error_type), failure
        assert words in failure["message"], failure
        assert (failure["failure_class"], failure["attempts"]) == (CLASSES.get(error_type, "bad_input"), 1), failure
        assert "\n" not in failure["message"]
        assert "secret" not in failure["message"]


def test_of_rows_with_one_id_the_first_counts_wherever_segments_end(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [text_row(row_id, encoded(picture(number))) for number, row_id in enumerate("abacab")]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    run_here(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 1})
    output = RunOutput(tmp_path / "out")
    assert {row["row"]: row["id"] for row in output.rows()} == {0: "a", 1: "b", 3: "c"}
    assert {row["row"]: row["message"].partition(":")[0] for row in output.failures()} == {
        2: "id 'a' is already the id of row 0",
        4: "id 'a' is already the id of row 0",
        5: "id 'b' is already the id of row 1",
    }


def test_rows_with_the_same_content_and_no_id_are_all_done(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [image_row("", id=None, prompt="the same") for _ in range(3)]
    summary = run_here(write_manifest(tmp_path / "m.parquet", rows), tmp_path / "out", tiny_checkpoint)
    assert summary.done == 3
    output = RunOutput(tmp_path / "out")
    assert len({row["id"] for row in output.rows()}) == 1
    assert len({row["output"] for row in output.rows()}) == 3
    assert len({row["sha256"] for row in output.rows()}) == 1


@pytest.mark.parametrize("kind", ["bomb", "float", "cmyk", "palette", "one pixel", "thin line"])
def test_odd_images_never_end_a_run(kind: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    images = {
        "bomb": Image.new("1", (20_000, 10_000)),
        "float": Image.new("F", (40, 40), 3.5),
        "cmyk": picture(0).convert("CMYK"),
        "palette": picture(0).quantize(7),
        "one pixel": picture(0, (1, 1)),
        "thin line": picture(0, (4000, 1)),
    }
    file_kind = "TIFF" if kind in ("float", "cmyk") else "PNG"
    rows = [text_row("odd", encoded(images[kind], file_kind)), text_row("good", encoded(picture(0)))]
    run_here(write_manifest(tmp_path / "m.parquet", rows), tmp_path / "out", tiny_checkpoint)
    output = RunOutput(tmp_path / "out")
    output.check_complete(["odd", "good"])
    assert "good" in output.by_id()
    assert ("odd" in output.failed_by_id()) == (kind in ("bomb", "float"))


def test_extreme_settings_never_end_a_run(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [
        image_row("much guidance", cfg_scale=1e308),
        image_row("hot", temperature=1e308),
        image_row("cold", temperature=1e-320),
        image_row("more steps than tokens", steps=100),
        image_row("long prompt", prompt="a bicycle " * 2000),
        image_row("odd prompt", prompt="a\0b \u202e \ud7ff 🦤"),
        text_row("hot and guided", encoded(picture(0)), cfg_scale=1e308, temperature=1e308),
        text_row("one token", encoded(picture(0)), max_tokens=1),
        text_row("blocks of one", encoded(picture(0)), max_tokens=8, block_length=1, steps=8),
    ]
    summary = run_here(write_manifest(tmp_path / "m.parquet", rows), tmp_path / "out", tiny_checkpoint)
    output = RunOutput(tmp_path / "out")
    output.check_complete(row["id"] for row in rows)
    assert output.failed_by_id().keys() == {"much guidance", "hot", "cold", "hot and guided"}
    assert summary.failures == {"bad_input": 4}


def test_the_command_ends_with_3_and_shows_the_first_failures(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [image_row(f"bad{number}", width=33) for number in range(8)]
    write_manifest(tmp_path / "m.parquet", rows)
    result = command(tmp_path / "m.parquet", "-o", tmp_path / "out", "--model", tiny_checkpoint, "--workers", 0)
    assert result.exit_code == 3
    shown = [line for line in result.stderr.splitlines() if line.startswith("    ")]
    assert len(shown) == 6
    assert shown[0] == "    row 0 (bad0), manifest: width must be a multiple of 16 from 16 to 2048, got 33"
    assert shown[5] == "    … and 3 more"


def test_wrong_columns_stop_the_command_before_anything_is_written(tiny_checkpoint: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"promt": ["a boat"], "task": ["text_to_image"], "widht": [64]}), tmp_path / "m.parquet")
    result = command(tmp_path / "m.parquet", "-o", tmp_path / "out", "--model", tiny_checkpoint, "--workers", 0)
    assert result.exit_code == 2
    check_one_line(
        result.stderr, "m.parquet", "no column 'prompt'", "nearest column found: 'promt'", "'widht' looks like"
    )
    check_one_line(result.stderr, "columns found: promt, task, widht")
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_truncated_manifest_stops_the_command_before_anything_is_written(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    data = write_manifest(tmp_path / "m.parquet", [image_row("a")]).read_bytes()
    (tmp_path / "m.parquet").write_bytes(data[: len(data) // 2])
    result = command(tmp_path / "m.parquet", "-o", tmp_path / "out", "--model", tiny_checkpoint, "--workers", 0)
    assert result.exit_code == 2
    check_one_line(result.stderr, "m.parquet is cut off")
    assert not (tmp_path / "out").exists()


def test_a_manifest_with_a_damaged_page_is_wrong_input_although_its_footer_is_right(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    pq.write_table(
        pa.Table.from_pylist([image_row("a")], schema=SCHEMA), tmp_path / "m.parquet", write_page_checksum=True
    )
    data = bytearray((tmp_path / "m.parquet").read_bytes())
    place = data.index(b"a red bicycle")
    data[place : place + 5] = b"\xff" * 5
    (tmp_path / "m.parquet").write_bytes(data)
    result = command(tmp_path / "m.parquet", "-o", tmp_path / "out", "--model", tiny_checkpoint, "--workers", 0)
    assert result.exit_code == 2
    check_one_line(result.stderr, "cannot read rows 0 to 0 of", "m.parquet")
    assert RunOutput(tmp_path / "out").keys("parts/") == []


def test_a_hopeless_run_is_stopped_early_with_a_status_of_its_own(tiny_checkpoint: Path, tmp_path: Path) -> None:
    rows = [image_row(f"bad{number}", width=33) for number in range(40)] + [
        image_row("good", width=32, height=32, steps=2)
    ]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    words = ["-o", tmp_path / "out", "--model", tiny_checkpoint, "--workers", 0, "--set", "pipeline.segment_rows=1"]
    stopped = command(manifest, *words, "--max-failures", 3)
    assert stopped.exit_code == 4
    check_one_line(stopped.stderr, "rows failed, over the limit of --max-failures 3", "_failures/")
    output = RunOutput(tmp_path / "out")
    assert output.success() is None
    assert command(manifest, *words, "--max-failures", "100%").exit_code == 3
    output.check_complete(row["id"] for row in rows)
    assert command(manifest, *words, "--max-failures", "many").exit_code == 2
