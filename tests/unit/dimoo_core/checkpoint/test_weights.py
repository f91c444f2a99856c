"""A checkpoint is read tensor by tensor, and whatever is wrong with it is named."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.random_checkpoint import write_random_checkpoint
from dimoo_core.checkpoint.check import expected_shapes
from dimoo_core.checkpoint.weights import load_transformer
from dimoo_core.errors import WeightsError
from dimoo_core.model.float8 import FLOAT8, Float8Weight
from dimoo_core.model.transformer import Transformer
from dimoo_core.model_config import read_model_config

WTE = "model.transformer.wte.weight"
NORM = "model.transformer.blocks.0.attn_norm.weight"
Edit = Callable[[dict[str, Tensor]], object]


def load(directory: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    config = read_model_config(directory / "config.json")
    return load_transformer(directory, config, device="cpu", dtype=dtype)


@pytest.fixture
def whole(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint with all weights in one file."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "whole"))


@pytest.fixture
def sharded(odd_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint with three weight files and an index."""
    return Path(shutil.copytree(odd_checkpoint, tmp_path / "sharded"))


def edit_weights(path: Path, edit: Edit) -> None:
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)


def test_each_tensor_ends_up_where_the_computation_reads_it(odd_checkpoint: Path) -> None:
    transformer, config = load(odd_checkpoint), read_model_config(odd_checkpoint / "config.json")
    stored = {name: tensor for path in odd_checkpoint.glob("*.safetensors") for name, tensor in load_file(path).items()}
    assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == expected_shapes(config)
    assert torch.equal(transformer.embedding, stored[WTE].float())
    assert torch.equal(transformer.head, stored["model.transformer.ff_out.weight"].float())
    block = transformer.blocks[1]
    fused = {"qkv": ("q_proj", "k_proj", "v_proj"), "gate_up": ("ff_proj", "up_proj"), "ff_out": ("ff_out",)}
    for name, parts in fused.items():
        expected = torch.cat([stored[f"model.transformer.blocks.1.{part}.weight"] for part in parts])
        assert torch.equal(getattr(block, name), expected.float())


def test_weights_may_be_stored_in_any_floating_type(whole: Path) -> None:
    expected = load(whole).embedding
    edit_weights(whole / "model.safetensors", lambda weights: weights.update({WTE: weights[WTE].float()}))
    assert torch.equal(load(whole).embedding, expected)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda weights: weights.pop(NORM), f"lacks 1 tensors: {NORM}"),
        (
            lambda weights: weights.update(extra=torch.ones(1)),
            "holds 1 tensors that its config does not explain: extra",
        ),
        (
            lambda weights: weights.update({NORM: torch.ones(3)}),
            rf"{NORM} must have shape \(64,\) by the config, got \(3,\)",
        ),
        (lambda weights: weights.update({NORM: torch.ones(64, dtype=torch.int8)}), f"{NORM} must be F32, F16 or BF16"),
    ],
    ids=["missing", "extra", "misshapen", "wrong type"],
)
def test_a_wrong_tensor_is_named(whole: Path, edit: Edit, message: str) -> None:
    edit_weights(whole / "model.safetensors", edit)
    with pytest.raises(WeightsError, match=message):
        load(whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, FLOAT8], ids=str)
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_value_that_is_not_finite_is_refused_by_the_name_of_its_tensor(
    whole: Path, dtype: torch.dtype, stored: torch.dtype
) -> None:
    def with_nan(weights: dict[str, Tensor]) -> None:
        weights.update({name: tensor.to(stored) for name, tensor in weights.items()})
        weights[NORM][5] = float("nan")

    load(whole, dtype)
    edit_weights(whole / "model.safetensors", with_nan)
    with pytest.raises(WeightsError, match=rf"model\.safetensors: {NORM} holds values that are not finite"):
        load(whole, dtype)


def test_a_value_that_the_type_cannot_hold_is_refused_with_a_type_that_can(whole: Path) -> None:
    edit_weights(whole / "model.safetensors", lambda weights: weights[WTE][-1, -1:].fill_(7e4))
    with pytest.raises(WeightsError, match=rf"{WTE} holds values up to .*, too large for float16: set dtype=bfloat16"):
        load(whole, torch.float16)
    assert load(whole, torch.bfloat16).embedding.isfinite().all()
    assert load(whole, FLOAT8).embedding.isfinite().all()


def test_what_is_scaled_to_fit_may_be_as_large_as_it_is(whole: Path) -> None:
    """Eight bits reach to 448, with a scale of each row's own."""
    query = "model.transformer.blocks.0.q_proj.weight"
    edit_weights(whole / "model.safetensors", lambda weights: weights[query].fill_(7e4))
    weight = load(whole, FLOAT8).blocks[0].qkv
    assert isinstance(weight, Float8Weight)
    assert torch.equal(
        weight.values_OI[:64].float() * weight.scales_O1[:64], torch.full((64, 64), 7e4).bfloat16().float()
    )


def test_a_truncated_file_is_named(whole: Path) -> None:
    path = whole / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a readable safetensors file"):
        load(whole)


def test_a_file_that_is_no_safetensors_is_named(whole: Path) -> None:
    (whole / "model.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a readable safetensors file"):
        load(whole)


def test_a_checkpoint_without_weights_says_which_file_was_looked_for(whole: Path) -> None:
    (whole / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks model\.safetensors: it holds no weights"):
        load(whole)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        WeightsError, match=r"lacks model-00002-of-00003\.safetensors: model\.safetensors\.index\.json lists them"
    ):
        load(sharded)


def test_an_index_that_promises_a_tensor_in_the_wrong_file_is_found_out(sharded: Path) -> None:
    rewrite_index(sharded, lambda weight_map: weight_map.update({WTE: "model-00003-of-00003.safetensors"}))
    with pytest.raises(WeightsError, match=rf"model-00003-of-00003\.safetensors does not hold {WTE}"):
        load(sharded)


def test_an_index_may_not_point_outside_its_directory(sharded: Path) -> None:
    rewrite_index(sharded, lambda weight_map: weight_map.update({WTE: "../whole/model.safetensors"}))
    with pytest.raises(WeightsError, match="names a file outside its directory"):
        load(sharded)


def test_a_tensor_held_by_two_shards_is_named(sharded: Path) -> None:
    first, last = sharded / "model-00001-of-00003.safetensors", sharded / "model-00003-of-00003.safetensors"
    wte = load_file(first)[WTE]
    edit_weights(last, lambda weights: weights.update({WTE: wte}))
    rewrite_index(sharded, lambda weight_map: weight_map.update({WTE: last.name}))
    with pytest.raises(WeightsError, match=f"holds a tensor twice: {WTE}"):
        load(sharded)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must hold a JSON object, got list"),
        ('{"metadata": {}}', "is damaged: no readable weight_map"),
        ('{"weight_map": []}', "is damaged: no readable weight_map"),
        ('{"weight_map": {"a": 1}}', "the file of a must be a safetensors file, got 1"),
        (
            '{"weight_map": {"a": "pytorch_model.bin"}}',
            "the file of a must be a safetensors file, got 'pytorch_model.bin'",
        ),
    ],
)
def test_a_damaged_index_is_named(sharded: Path, content: str, message: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(WeightsError, match=rf"model\.safetensors\.index\.json:? {re.escape(message)}"):
        load(sharded)


def rewrite_index(directory: Path, edit: Edit) -> None:
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    edit(index["weight_map"])
    path.write_text(json.dumps(index))


_MEASURE = """
import sys
from pathlib import Path
import torch
from dimoo_core.model_config import read_model_config
from dimoo_core.checkpoint.weights import load_transformer

def kilobytes(field):
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field)).split()[1])

directory = Path(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = kilobytes("VmRSS")
load_transformer(directory, read_model_config(directory / "config.json"), device=sys.argv[2], dtype=torch.bfloat16)
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.soak
def test_loading_holds_about_one_shard_in_host_memory(tmp_path: Path) -> None:
    """Measured on a device without memory, so that only what reading needs is counted."""
    write_random_checkpoint(tmp_path, hidden_size=512, num_layers=9, mlp_size=1536, num_shards=8)
    sizes = [path.stat().st_size for path in tmp_path.glob("model-*.safetensors")]
    assert peak_bytes_of_loading(tmp_path, "meta") < 1.5 * max(sizes) < sum(sizes) / 2


def peak_bytes_of_loading(directory: Path, device: str) -> int:
    command = [sys.executable, "-c", _MEASURE, str(directory), device]
    measured = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return int(measured.stdout) * 1024
