"""Rows whose inputs would take a machine's memory, or that no reader expects: each fails, or is run, alone."""

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dimoo_core.checkpoint.load import Model
from dimoo_core.codec.resize import centered, crop_sizes_for, fit, fit_as_planned, plan_fit
from dimoo_core.errors import RequestError
from dimoo_core.request.tokenizer import MAX_CHARACTERS
from pipeline.images.decoder import ImageDecoder
from pipeline.protocol.source_policy import SourcePolicy
from tests.support.command import REPOSITORY
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

MEMORY_BYTES = 6 * 2**30


def flat_png(width: int, height: int) -> bytes:
    """A PNG of one colour; a few bytes, however large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


RUN = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), resource.RLIM_INFINITY))
from pathlib import Path
from tests.support.in_process import run_here
run_here(sys.argv[2], sys.argv[3], Path(sys.argv[4]), **json.loads(sys.argv[5]))
"""


@pytest.mark.soak
def test_rows_that_ask_for_a_machines_memory_fail_alone(tmp_path: Path, tiny_checkpoint: Path) -> None:
    """The triggers that once ended a run, all in one manifest, with an address space of 6 GB."""
    good = encoded(picture())
    (tmp_path / "~tmp.jpg").write_bytes(good)
    Image.new("L", (13_377, 13_377)).save(tmp_path / "large.png")
    rows = [
        text_row("good", good),
        text_row("long image", flat_png(1, 30_000)),
        text_row("wide image", flat_png(30_000, 1)),
        *(text_row(f"large {number}", "large.png") for number in range(8)),
        text_row("kernel log", "/proc/kmsg"),
        text_row("tilde", "~tmp.jpg"),
        text_row("tilde of nobody", "~nobody_of_that_name/x.jpg"),
        image_row("long prompt", prompt="word " * 4_000_000),
        image_row("another good one"),
    ]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    spec = '{"understanding": {"resolution": 512, "max_tokens": 8, "block_length": 8, "steps": 2}}'
    arguments = [str(MEMORY_BYTES), str(manifest), str(tmp_path / "out"), str(tiny_checkpoint), spec]
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=REPOSITORY, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert ended.returncode == 0
    output = RunOutput(tmp_path / "out")
    output.check_complete([row["id"] for row in rows])
    failed = {name: failure["failure_class"] for name, failure in output.failed_by_id().items()}
    assert failed.pop("kernel log") in ("store", "bad_input")  # it may have something to read
    assert failed == {"tilde of nobody": "not_found", "long prompt": "bad_input"}


def test_a_long_image_is_cut_as_if_it_had_been_scaled_whole() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    plan = plan_fit(image.size, crop_sizes_for(image.size, 64))
    fitted = fit_as_planned(image, plan, centered)
    left, upper = centered(*plan.max_offset)
    whole = image.resize(plan.scaled, resample=Image.Resampling.BICUBIC)
    expected = whole.crop((left, upper, left + plan.crop[0], upper + plan.crop[1]))
    assert fitted.size == plan.crop
    differences = np.abs(np.asarray(fitted).astype(int) - np.asarray(expected).astype(int))
    assert differences.max() <= 2


def test_an_image_of_one_line_is_fitted_in_little_memory() -> None:
    image = Image.open(io.BytesIO(flat_png(1, 30_000))).convert("RGB")
    assert fit(image, crop_sizes_for(image.size, 512), centered).size == (256, 1024)


def test_pixels_count_until_an_image_is_fitted() -> None:
    """A second image that does not go with the first waits until that is let go of, not only until it is decoded."""
    decoder = ImageDecoder(SourcePolicy(max_pixels=3_000_000))
    large, second = encoded(Image.new("RGB", (1500, 1500))), threading.Event()

    def decode() -> None:
        decoder.decode(large, "second")
        second.set()

    with ExitStack() as held:
        decoder.decode(large, "first", held=held)
        thread = threading.Thread(target=decode)
        thread.start()
        assert not second.wait(1.0)
    assert second.wait(30.0)
    thread.join()
    decoder.close()


def test_a_prompt_longer_than_any_sequence_is_not_tokenized(tiny_model: Model) -> None:
    with pytest.raises(RequestError, match=f"at most {MAX_CHARACTERS:,} characters, got {MAX_CHARACTERS + 1:,}"):
        tiny_model.layout._prompt_ids("x" * (MAX_CHARACTERS + 1))
