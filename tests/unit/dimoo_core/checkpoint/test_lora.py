"""Adapters that PEFT itself made, merged and compared with what PEFT makes of them."""

import json
import math
import shutil
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dimoo_core.checkpoint.check import expected_shapes
from dimoo_core.checkpoint.lora import check_adapter, read_adapter
from dimoo_core.checkpoint.weights import load_transformer
from dimoo_core.errors import WeightsError
from dimoo_core.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from dimoo_core.model.packed_batch import pack, read_everything
from dimoo_core.model.transformer import Transformer
from dimoo_core.model_config import ModelConfig, read_model_config
from tests.support.checkpoint_damage import POINTER
from tests.unit.dimoo_core.model.test_transformer import weights_of

LINEAR = ("q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out")
IDS = torch.arange(3, 40)


class Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class Layer(nn.Module):
    """One layer whose linear parts PEFT can adapt, for a single sequence."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size, kv_size, mlp_size = config.hidden_size, config.kv_size, config.mlp_size
        self.attn_norm, self.ff_norm = Norm(size, config.rms_norm_eps), Norm(size, config.rms_norm_eps)
        self.q_proj, self.attn_out = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
        self.k_proj, self.v_proj = nn.Linear(size, kv_size, bias=False), nn.Linear(size, kv_size, bias=False)
        self.ff_proj, self.up_proj = nn.Linear(size, mlp_size, bias=False), nn.Linear(size, mlp_size, bias=False)
        self.ff_out = nn.Linear(mlp_size, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.attn_norm(x)
        q, k = self._rotated(self._heads(self.q_proj(normed))), self._rotated(self._heads(self.k_proj(normed)))
        groups = self.config.num_heads // self.config.num_kv_heads
        v = self._heads(self.v_proj(normed)).repeat_interleave(groups, 0)
        scores = q @ k.repeat_interleave(groups, 0).transpose(1, 2) / math.sqrt(self.config.head_dim)
        x = x + self.attn_out((scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), -1))
        normed = self.ff_norm(x)
        return x + self.ff_out(F.silu(self.ff_proj(normed)) * self.up_proj(normed))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, self.config.head_dim).transpose(0, 1)

    def _rotated(self, x: Tensor) -> Tensor:
        half = self.config.head_dim // 2
        angles = torch.arange(x.shape[1])[:, None] * self.config.rope_theta ** -(torch.arange(half) / half)
        first, second = x[..., :half], x[..., half:]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class PublishedNames(nn.Module):
    """The checkpoint's linear layers under the names that they have in it, so that PEFT can find them."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        config = read_model_config(directory / "config.json")
        inner = nn.Module()
        inner.wte = nn.Embedding(config.num_embeddings, config.hidden_size)
        inner.blocks = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        inner.ln_f = Norm(config.hidden_size, config.rms_norm_eps)
        inner.ff_out = nn.Linear(config.hidden_size, config.num_embeddings, bias=False)
        self.model = nn.Module()
        self.model.transformer = inner
        self.load_state_dict(weights_of(directory))

    def forward(self, ids: Tensor) -> Tensor:
        inner: Any = self.model.transformer
        x = inner.wte(ids)
        for layer in inner.blocks:
            x = layer(x)
        logits: Tensor = inner.ff_out(inner.ln_f(x))
        return logits


@torch.no_grad()
def made_by_peft(base: Path, directory: Path, **options: Any) -> nn.Module:
    """An adapter with random matrices, saved to the directory; returns PEFT's merged model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the model is not one of transformers
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(0)
        adapted = get_peft_model(
            PublishedNames(base), LoraConfig(**{"target_modules": list(LINEAR), "r": 4, "lora_alpha": 6, **options})
        )
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        adapted.save_pretrained(directory)
        merged: nn.Module = adapted.merge_and_unload()
    return merged


@torch.no_grad()
def logits_of(transformer: Transformer) -> Tensor:
    hidden = transformer(pack([read_everything(IDS)], torch.device("cpu")))
    return transformer.logits(hidden, slice(0, None))


def load(base: Path, adapter: Path | None) -> Transformer:
    config = read_model_config(base / "config.json")
    return load_transformer(base, config, device="cpu", dtype=torch.float32, adapter=adapter)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"use_rslora": True}, id="rslora"),
        pytest.param({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"blocks.0.ff_out": 20}}, id="patterns"),
        pytest.param({"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]}, id="some layers"),
        pytest.param({"init_lora_weights": "gaussian", "r": 1, "lora_alpha": 1}, id="rank 1"),
    ],
)
@pytest.mark.parametrize("kind", ["tiny_checkpoint", "odd_checkpoint"])
@torch.no_grad()
def test_an_adapter_of_peft_gives_the_logits_of_its_own_merged_model(
    options: dict[str, Any], kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base: Path = request.getfixturevalue(kind)
    merged = made_by_peft(base, tmp_path, **options)
    ours = load(base, tmp_path)
    torch.testing.assert_close(logits_of(ours), merged(IDS), rtol=0, atol=1e-4)
    plain = logits_of(load(base, None))
    assert (logits_of(ours) - plain).abs().max() > 0.1, "the adapter must make a difference"


@torch.no_grad()
def test_merged_weights_are_those_of_peft_bit_for_bit(tiny_checkpoint: Path, tmp_path: Path) -> None:
    layer = made_by_peft(tiny_checkpoint, tmp_path).state_dict()
    block: Any = load(tiny_checkpoint, tmp_path).blocks[1]
    names = [f"model.transformer.blocks.1.{name}.weight" for name in LINEAR]
    qkv = torch.cat([layer[name] for name in names[:3]])
    assert torch.equal(block.qkv, qkv)
    assert torch.equal(block.attn_out, layer[names[3]])
    assert torch.equal(block.gate_up, torch.cat([layer[name] for name in names[4:6]]))
    assert torch.equal(block.ff_out, layer[names[6]])


@pytest.fixture(scope="module")
def saved(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("adapter")
    made_by_peft(tiny_checkpoint, directory)
    return directory


def with_config(**changes: Any) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / ADAPTER_CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def with_weights(edit: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        weights = load_file(directory / ADAPTER_WEIGHTS)
        edit(weights)
        save_file(weights, directory / ADAPTER_WEIGHTS)

    return change


def as_pickle(directory: Path) -> None:
    torch.save(load_file(directory / ADAPTER_WEIGHTS), directory / "adapter_model.bin")
    (directory / ADAPTER_WEIGHTS).unlink()


Q = "base_model.model.model.transformer.blocks.0.q_proj"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda directory: (directory / ADAPTER_CONFIG).unlink(), "adapter_config.json is missing"),
        (lambda directory: (directory / ADAPTER_WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
        (lambda directory: (directory / ADAPTER_CONFIG).write_text("{"), "is not valid JSON"),
        (with_config(peft_type="IA3"), "peft_type must be 'LORA', got 'IA3'"),
        (with_config(use_dora=True), "use_dora is set, which is not supported"),
        (with_config(modules_to_save=["wte"]), "modules_to_save is set, which is not supported"),
        (with_config(bias="all"), "bias must be 'none', got 'all'"),
        (with_config(init_lora_weights="pissa_niter_4"), "init_lora_weights 'pissa_niter_4' changes the base weights"),
        (with_config(r=0), "r must be a whole number above 0, got 0"),
        (with_config(lora_alpha="16"), "lora_alpha must be a number above 0, got '16'"),
        (with_config(rank_pattern={"q_proj": 2.5}), "rank_pattern: 'q_proj' must be a whole number above 0, got 2.5"),
        (with_config(r=8), "lora_A must have shape (8, 64), got (4, 64)"),
        (with_weights(lambda weights: weights.pop(f"{Q}.lora_B.weight")), "q_proj has no lora_B"),
        (
            with_weights(lambda weights: weights.update({f"{Q}.lora_B.weight": torch.zeros(63, 4)})),
            "lora_B must have shape (64, 4), got (63, 4)",
        ),
        (
            with_weights(lambda weights: weights.update({f"{Q}.lora_magnitude_vector": torch.zeros(64)})),
            "which is not lora_A or lora_B of a linear layer",
        ),
        (
            with_weights(
                lambda weights: weights.update({f"{Q}x.lora_{side}.weight": torch.ones(4, 4) for side in "AB"})
            ),
            "blocks.0.q_projx is no matrix of the checkpoint: the adapter is for another architecture",
        ),
        (
            with_weights(lambda weights: weights.update({f"{Q}.lora_A.weight": torch.ones(4, 64, dtype=torch.int8)})),
            "must be floating point (F64, F32, F16, BF16), got I8",
        ),
        (with_weights(dict.clear), "holds no tensors: the adapter changes nothing"),
        (with_config(alpha_pattern={"q_proj[": 100}), "alpha_pattern: 'q_proj[' is not a regular expression"),
        (with_config(rank_pattern={"(q_proj": 4}), "rank_pattern: '(q_proj' is not a regular expression"),
        (with_config(rank_pattern={"q{99999999999}": 4}), "rank_pattern: 'q{99999999999}' is not a regular expression"),
        (with_config(alpha_pattern=["q_proj"]), "alpha_pattern must be an object of module names and numbers"),
        (with_config(alpha_pattern={"q_proj": None}), "alpha_pattern: 'q_proj' must be a number above 0, got None"),
        (with_config(lora_alpha=float("nan")), "lora_alpha must be a number above 0, got nan"),
        (with_config(lora_alpha=float("inf")), "lora_alpha must be a number from above 0 to 1e+30, got inf"),
        (with_config(lora_alpha=10**400), "lora_alpha must be a number from above 0 to 1e+30, got 1000"),
        (with_config(use_rslora="false"), "use_rslora must be true or false, got 'false'"),
        (
            as_pickle,
            "holds adapter_model.bin, a pickle, where only adapter_model.safetensors is read: save the adapter",
        ),
        (
            lambda directory: (directory / ADAPTER_CONFIG).rename(directory / "config.json"),
            "is a checkpoint, not an adapter: give it as model",
        ),
        (lambda directory: (directory / ADAPTER_WEIGHTS).write_text(POINTER), "is a git-lfs pointer"),
        (lambda directory: (directory / ADAPTER_CONFIG).write_text(POINTER), "is a git-lfs pointer"),
        (lambda directory: (directory / ADAPTER_WEIGHTS).write_text(""), "adapter_model.safetensors is empty"),
        (
            with_weights(
                lambda weights: weights.update({f"{Q}.lora_A.default.weight": weights.pop(f"{Q}.lora_A.weight")})
            ),
            "lora_A.default.weight, which is not lora_A or lora_B of a linear layer as PEFT names it",
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(
    change: Callable[[Path], None], words: str, saved: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(saved, tmp_path / "adapter"))
    change(directory)
    shapes = expected_shapes(read_model_config(tiny_checkpoint / "config.json"))
    for look in (check_adapter, read_adapter):
        with pytest.raises(WeightsError) as caught:
            look(directory, shapes)
        assert words in str(caught.value)
        assert str(caught.value).isprintable(), "one line"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["A", "B"])
def test_an_adapter_that_is_not_finite_is_known_on_reading(
    value: float, side: str, saved: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(saved, tmp_path / "adapter"))
    with_weights(lambda weights: weights[f"{Q}.lora_{side}.weight"].view(-1)[-1:].fill_(value))(directory)
    check_adapter(directory, expected_shapes(read_model_config(tiny_checkpoint / "config.json")))
    with pytest.raises(
        WeightsError, match=rf"{ADAPTER_WEIGHTS}: {Q}\.lora_{side}\.weight holds values that are not finite"
    ):
        load(tiny_checkpoint, directory)


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (1e30, torch.float32, "with this adapter merged holds values that are not finite"),
        (
            1e4,
            torch.float16,
            "with this adapter merged holds values up to .* too large for float16: set dtype=bfloat16",
        ),
        (1e4, torch.bfloat16, None),
    ],
)
def test_what_an_adapter_makes_of_the_weights_is_finite_in_their_type(
    value: float, dtype: torch.dtype, words: str | None, saved: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    directory, config = (
        Path(shutil.copytree(saved, tmp_path / "adapter")),
        read_model_config(tiny_checkpoint / "config.json"),
    )
    with_weights(lambda weights: [weights[f"{Q}.lora_{side}.weight"].fill_(value) for side in "AB"])(directory)
    refused = pytest.raises(WeightsError, match=words) if words is not None else nullcontext()
    with refused:
        load_transformer(tiny_checkpoint, config, device="cpu", dtype=dtype, adapter=directory)
