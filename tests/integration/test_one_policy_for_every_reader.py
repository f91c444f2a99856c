"""What a run may not read, nobody reads for it; and plan, validation and run have one opinion of every image."""

import io
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from dimoo_core.errors import ConfigError
from jobs.export.export import ExportRequest, export_run
from jobs.manifest.inspect import validate_manifest
from jobs.plan.plan import plan_run
from jobs.plan.row_cost import read_model_facts
from jobs.report.write import write_report
from jobs.run.retry import retry_job
from jobs.run.retry_plan import RetryOptions
from jobs.spec.resolve import resolved_spec
from jobs.spec.spec import load_spec
from jobs.tools.replay import replay_row
from manifests.errors import RowFailure
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import FAST_SETTINGS, encoded, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

SECRET = picture(7, (640, 480))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name, image in (("open", picture(1, (640, 480))), ("closed", SECRET)):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "x.png")
    rows = [text_row("allowed", "open/x.png"), text_row("refused", "closed/x.png")]
    return write_manifest(tmp_path / "m.parquet", rows).parent


def planned(manifest: Path, model: Path, **spec: Any) -> Any:
    job = load_spec(None, FAST_SETTINGS | spec | {"manifest": str(manifest), "model": str(model)}, [])
    defaults, facts = resolved_spec(job).row_defaults(), read_model_facts(str(model))
    return plan_run(job, defaults, facts, num_workers=1, reads_remote=False)


def invalid_of(manifest: Path, model: Path, **spec: Any) -> dict[str, str]:
    job = load_spec(None, FAST_SETTINGS | spec | {"manifest": str(manifest), "model": str(model)}, [])
    found: list[RowFailure] = []
    validate_manifest(job, resolved_spec(job).row_defaults(), found.append, reads_images=True)
    return {failure.id: failure.error_type for failure in found}


def test_no_reader_opens_what_the_run_may_not_read(
    folders: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    manifest, out = folders / "m.parquet", folders / "out"
    sources = {"folders": [str(folders / "open")]}
    run_here(manifest, out, tiny_checkpoint, sources=sources)
    output = RunOutput(out)
    assert [(name, row["failure_class"]) for name, row in output.failed_by_id().items()] == [("refused", "forbidden")]
    assert invalid_of(manifest, tiny_checkpoint, sources=sources) == {"refused": "SourceRefused"}
    assert dict(planned(manifest, tiny_checkpoint, sources=sources).reason_counts) == {"fetch: SourceRefused": 1}
    retry_job(str(out), RetryOptions(classes=("forbidden",), workers=0))
    assert set(output.failed_by_id()) == {"refused"}
    write_report(str(out), manifest=None, max_rows=10)
    assert len(output.keys("report/sources/")) == 1
    assert "SourceRefused" in replay_row(str(out), "refused", manifest=None).outcome
    export_run(ExportRequest(output=str(out), format="files", target=str(folders / "exported")))
    files = [path.read_bytes() for path in (folders / "exported").rglob("*.png")]
    assert files == [(folders / "open" / "x.png").read_bytes()]


def test_rows_that_were_edited_after_the_run_make_no_reader_read(
    folders: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    manifest, out = folders / "m.parquet", folders / "out"
    run_here(manifest, out, tiny_checkpoint, sources={"folders": [str(folders / "open")]})
    table = pq.read_table(manifest).to_pylist()
    table[0]["image"]["path"] = "closed/x.png"
    pq.write_table(pa.Table.from_pylist(table, schema=pq.read_schema(manifest)), manifest)
    with pytest.raises(ConfigError, match="is not the manifest of this run"):
        export_run(ExportRequest(output=str(out), format="files", target=str(folders / "exported")))
    write_report(str(out), manifest=None, max_rows=10)
    assert RunOutput(out).keys("report/sources/") == []


def text_chunk(kind: str, size: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * size, zip=kind == "zTXt")
    return encoded(picture(), "PNG", pnginfo=info)


def odd_orientation(value: bytes, kind: int) -> bytes:
    """A JPEG whose EXIF has the orientation in a type that it should not have."""
    entry = pack("<HHI4s", 0x0112, kind, 1, value.ljust(4, b"\0"))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + pack("<H", 1) + entry + b"\0\0\0\0"
    plain = encoded(picture(), "JPEG")
    return plain[:2] + b"\xff\xe1" + pack(">H", len(exif) + 2) + exif + plain[2:]


def corpus() -> Iterator[tuple[str, bytes]]:
    """300 files of 20 formats and more, ordinary and odd; some are no images, some of formats that are not read."""
    rng = random.Random(18)
    writers: list[tuple[str, str, dict[str, Any]]] = [
        *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")),
        *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
        ("JPEG", "RGB", {"progressive": True}),
        *(("WEBP", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA") for lossless in (True, False)),
        *(("TIFF", mode, {}) for mode in ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F", "LAB", "YCbCr")),
        *(("TIFF", "RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        *(("GIF", mode, {}) for mode in ("L", "P", "RGB")),
        *(("BMP", mode, {}) for mode in ("1", "L", "RGB")),
        *(("PPM", mode, {}) for mode in ("1", "L", "RGB", "I")),
        *(("JPEG2000", mode, {}) for mode in ("L", "RGB", "RGBA")),
        *((kind, "RGB", {}) for kind in ("AVIF", "ICO", "TGA", "PCX", "SGI", "DDS", "ICNS")),
    ]
    number = 0
    while number < 280:
        for kind, mode, options in writers:
            width, height = rng.randint(1, 90), rng.randint(1, 90)
            data = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            image, buffer = Image.fromarray(data), io.BytesIO()
            image = image.convert("L").convert(mode) if mode in ("I", "F", "I;16") else image.convert(mode)
            try:
                image.save(buffer, format=kind, **options)
            except (OSError, KeyError, ValueError, SystemError):  # this Pillow does not write it
                continue
            yield f"{number} {kind} {mode} {width}x{height}", buffer.getvalue()
            number += 1
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        yield f"orientation {turn}", encoded(picture(turn, (64, 40)), "JPEG", exif=exif)
    yield "orientation as a byte", odd_orientation(b"\x06", 1)
    yield "orientation as text", odd_orientation(b"6", 2)
    yield "much text", text_chunk("tEXt", 900_000)
    yield "much compressed text", text_chunk("zTXt", 3_000_000)
    yield "large header", encoded(picture(), "JPEG", icc_profile=zlib.compress(bytes(range(256)) * 4) * 1500)
    yield "large and ordinary", encoded(picture(3, (900, 700)), "PNG")
    yield "nothing", b""
    yield "text", b"no picture" * 10
    yield "cut", encoded(picture())[:20]
    yield "a page", b"<html>" + bytes(400)


def test_plan_validation_and_run_agree_on_every_file(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    rows = []
    for number, (name, data) in enumerate(corpus()):
        (tmp_path / f"{number}.bin").write_bytes(data)
        rows.append({"id": name, "task": "tokenize", "image": {"bytes": None, "path": f"{number}.bin"}})
    assert len(rows) >= 298
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    small = {"tokenize": {"resolution": 32}}
    invalid = invalid_of(manifest, tiny_checkpoint, **small)
    run_here(manifest, tmp_path / "out", tiny_checkpoint, **small)
    failed = RunOutput(tmp_path / "out").failed_by_id()
    assert {name: row["error_type"] for name, row in failed.items()} == invalid
    assert 4 <= len(invalid) < 80
    plan = planned(manifest, tiny_checkpoint, **small)
    assert plan.invalid == len(invalid), plan.reasons
