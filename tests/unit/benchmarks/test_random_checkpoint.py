"""Checkpoints with random weights: the published layout, the same bytes from the same seed."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.random_checkpoint import write_random_checkpoint
from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.engine.engine import Engine
from tests.support.engine_run import answer_of, ids_of, image_codes, image_of, run_all


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_in_another_process(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.random_checkpoint", str(tmp_path), "--seed", "0"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert digests(tmp_path) == digests(tiny_checkpoint)


def test_another_seed_gives_other_weights_and_the_same_tokenizer(tiny_checkpoint: Path, tmp_path: Path) -> None:
    other, first = digests(write_random_checkpoint(tmp_path, seed=1)), digests(tiny_checkpoint)
    assert other.keys() == first.keys()
    changed = {name for name in first if first[name] != other[name]}
    assert changed == {"model.safetensors", "vqvae/diffusion_pytorch_model.safetensors"}


def test_it_is_small(tiny_checkpoint: Path) -> None:
    assert sum(path.stat().st_size for path in tiny_checkpoint.rglob("*") if path.is_file()) < 8_000_000


def test_sizes_shards_and_padding_are_as_asked(odd_checkpoint: Path, odd_model: Model) -> None:
    config = odd_model.config
    assert (config.hidden_size, config.num_layers, config.num_heads, config.num_kv_heads) == (48, 3, 6, 2)
    assert config.num_embeddings == odd_model.tokens.image_columns.stop + 37
    index = json.loads((odd_checkpoint / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == 3


def test_weights_may_have_another_type(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, dtype="float32")
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "float32"
    assert load_model(tmp_path, dtype="bfloat16").transformer.dtype.itemsize == 2


def test_images_have_contrast_and_answers_have_words(tiny_model: Model) -> None:
    engine = Engine(tiny_model.transformer, tiny_model.tokens)
    results = run_all(engine, [image_of(tiny_model, "image"), answer_of(tiny_model, "answer")])
    codes = image_codes(results["image"])
    assert len(codes.unique()) > 2
    (image,) = tiny_model.codec.decode([codes])
    assert np.asarray(image).std() > 20
    answer = ids_of(results["answer"])
    assert len(set(answer)) > 2
    assert len(tiny_model.layout.answer_text(answer).strip()) > 5


def test_codes_of_an_image_depend_on_the_image(tiny_model: Model) -> None:
    red, blue = (Image.new("RGB", (32, 32), color) for color in ("red", "blue"))
    first, second = tiny_model.codec.encode([red, blue])
    assert (first != second).any()


def test_an_interrupted_writing_resumes_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = write_random_checkpoint(tmp_path / "whole", num_shards=3)
    again = write_random_checkpoint(tmp_path / "again", num_shards=3)
    first, second, third = sorted(again.glob("*.safetensors"))
    second.write_bytes(second.read_bytes()[:-1])
    third.unlink()
    before = first.stat().st_mtime_ns
    write_random_checkpoint(again, num_shards=3, keep_shards=True)
    assert first.stat().st_mtime_ns == before
    assert digests(again) == digests(whole)
