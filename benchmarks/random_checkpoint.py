"""Small checkpoints with random weights and the layout of the published one, for tests, benchmarks and demonstrations.

``python -m benchmarks.random_checkpoint DIR`` writes one. Same options, same bytes: weights are uniform
numbers from a generator keyed by seed and tensor name, which no library or machine rounds differently. Nothing they
produce means anything, but images have contrast and answers have several words.
"""

import argparse
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.random_tokenizer import Vocabulary, write_json, write_tokenizer
from dimoo_core.checkpoint.check import expected_shapes
from dimoo_core.checkpoint.tensors import StoredTensor, read_header
from dimoo_core.codec.vqgan import VQModel
from dimoo_core.errors import WeightsError
from dimoo_core.model_config import ModelConfig, VQConfig
from dimoo_core.request.tokens import NUM_VQ_CODES
from dimoo_core.settings import DtypeName

_FURTHER_KEYS: dict[str, Any] = {
    "alibi": False,
    "alibi_bias_max": 8.0,
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig"},
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "embedding_dropout": 0.0,
    "eos_token_id": 126081,
    "flash_attention": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_with_affine": True,
    "mask_token_id": 126336,
    "mlp_ratio": 4,
    "multi_query_attention": None,
    "pad_token_id": 126081,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rope_full_precision": True,
    "scale_logits": False,
    "transformers_version": "4.46.2",
    "use_cache": False,
}
"""What else the configs of the LLaDA family hold; the engine reads a part of them.

Source: the fields of ``LLaDAConfig`` in the reference's ``configuration_llada.py``.
"""

_MakeWeight = Callable[[str, tuple[int, ...]], Tensor]

_ATTENTION_GAIN = 1.6  # of queries and keys: sharp enough that neighbouring masks see different things
_TEXT_LOGIT_STD, _IMAGE_LOGIT_STD, _SPECIAL_LOGIT_STD = 4.0, 2.0, 0.1
"""An answer is then made of text, and the sampler never emits a mask."""


def write_random_checkpoint(
    directory: Path,
    *,
    seed: int = 0,
    hidden_size: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    num_kv_heads: int = 4,
    mlp_size: int = 192,
    dtype: DtypeName = "bfloat16",
    num_shards: int = 1,
    padded_rows: int = 0,
    num_codes: int = NUM_VQ_CODES,
    unused_ids: int = 0,
    vocabulary: Vocabulary = "small",
    keep_shards: bool = False,
) -> Path:
    """Write a checkpoint into ``directory``, which is made if need be, and return it; about 4 MB by default.

    Args:
        directory: Files of the same names are overwritten.
        seed: Decides every weight.
        hidden_size: With the other sizes, the shape of the transformer.
        num_layers: See ``hidden_size``.
        num_heads: See ``hidden_size``.
        num_kv_heads: Fewer than ``num_heads`` for grouped queries.
        mlp_size: See ``hidden_size``.
        dtype: Type of the stored weights; the image codec's are float32.
        num_shards: Safetensors files; an index is written if there are several.
        padded_rows: Rows of embedding and head beyond the last VQ code.
        num_codes: Entries of the image codebook; the published one has 8192.
        unused_ids: Ids between the tokenizer's last and the first VQ code. With these two a small model's head has the
            share of the arithmetic, and VQ codes the share of the head, that they have in the published one.
        vocabulary: Of the tokenizer. With the small one config.json says where codes begin, if rows or ids are unused;
            with the others it does not, as the published one does not by all that is known.
        keep_shards: Leave weight files that are there and whole, to go on where an earlier call was interrupted.
    """
    directory.mkdir(parents=True, exist_ok=True)
    ids = write_tokenizer(directory, vocabulary, num_codes)
    offset = ids.first_free + unused_ids
    config = ModelConfig(
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        num_layers=num_layers,
        mlp_size=mlp_size,
        num_embeddings=max(offset + num_codes, ids.num_ids) + padded_rows,
        image_token_offset=offset if unused_ids or (padded_rows and vocabulary == "small") else None,
    )
    further = {} if vocabulary == "small" else _FURTHER_KEYS
    write_json(directory / "config.json", _config_json(config, dtype) | further)
    seeded = _SeededTensors(seed)
    code_rows = slice(offset, offset + num_codes)
    made = partial(_transformer_weight, seeded=seeded, num_text_ids=ids.num_text_ids, code_rows=code_rows)
    _write_weights(directory, config, made, getattr(torch, dtype), num_shards, keep_shards=keep_shards)
    _write_image_codec(directory / "vqvae", seeded, num_codes)
    return directory


@dataclass(frozen=True, slots=True)
class _SeededTensors:
    seed: int

    def uniform(self, name: str, shape: tuple[int, ...], std: float | Tensor) -> Tensor:
        """Uniform numbers of mean 0, float32: a function of seed and name."""
        digest = hashlib.blake2b(f"{self.seed}:{name}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
        return torch.rand(shape, generator=generator).sub_(0.5).mul_(math.sqrt(12) * std)  # in place: it may be large


def _config_json(config: ModelConfig, dtype: DtypeName) -> dict[str, Any]:
    return {
        "architectures": ["LLaDAForMultiModalGeneration"],
        "model_type": "llada",
        "block_type": "llama",
        "activation_type": "silu",
        "layer_norm_type": "rms",
        "d_model": config.hidden_size,
        "n_heads": config.num_heads,
        "n_kv_heads": config.num_kv_heads,
        "n_layers": config.num_layers,
        "mlp_hidden_size": config.mlp_size,
        "vocab_size": config.num_embeddings,
        "embedding_size": config.num_embeddings,
        "max_sequence_length": 4096,
        "rope": True,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.rms_norm_eps,
        "include_bias": False,
        "weight_tying": False,
        "torch_dtype": dtype,
        **({} if config.image_token_offset is None else {"image_token_offset": config.image_token_offset}),
    }


def _transformer_weight(
    name: str, shape: tuple[int, ...], seeded: _SeededTensors, num_text_ids: int, code_rows: slice
) -> Tensor:
    if "norm" in name or "ln_f" in name:
        return torch.ones(shape)
    return seeded.uniform(name, shape, _standard_deviation(name, shape, num_text_ids, code_rows))


def _standard_deviation(name: str, shape: tuple[int, ...], num_text_ids: int, code_rows: slice) -> float | Tensor:
    """Keeps activations near 1 everywhere; of the head, one number a row."""
    if name.endswith("transformer.wte.weight"):
        return 1.0
    scale = 1 / math.sqrt(shape[-1])
    if name.endswith("transformer.ff_out.weight"):
        row_std = torch.full((shape[0], 1), _SPECIAL_LOGIT_STD)
        row_std[:num_text_ids] = _TEXT_LOGIT_STD
        row_std[code_rows] = _IMAGE_LOGIT_STD
        return row_std * scale
    return _ATTENTION_GAIN * scale if "q_proj" in name or "k_proj" in name else scale


def _write_weights(
    directory: Path, config: ModelConfig, made: _MakeWeight, dtype: torch.dtype, num_shards: int, *, keep_shards: bool
) -> None:
    """One file, or as many as asked for with an index that says which tensor is where; one is in memory at a time."""
    shapes = expected_shapes(config)
    names = list(shapes)
    weight_map: dict[str, str] = {}
    for shard in range(num_shards):
        members = names[len(names) * shard // num_shards : len(names) * (shard + 1) // num_shards]
        file_name = f"model-{shard + 1:05d}-of-{num_shards:05d}.safetensors" if num_shards > 1 else "model.safetensors"
        weight_map |= dict.fromkeys(members, file_name)
        path = directory / file_name
        if keep_shards and _is_whole(path, {name: shapes[name] for name in members}, dtype):
            continue
        weights = {name: made(name, shapes[name]).to(dtype) for name in members}
        save_file(weights, path, {"format": "pt"})
    if num_shards > 1:
        total_size = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
        index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", index)


def _is_whole(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> bool:
    """Whether a file holds these tensors in this type to its end; what the numbers are is not looked at."""
    try:
        found = read_header(path, if_missing="it is not written yet")
    except WeightsError:
        return False
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
    return found == {name: StoredTensor(shape, names[dtype]) for name, shape in shapes.items()}


def _write_image_codec(directory: Path, seeded: _SeededTensors, num_codes: int) -> None:
    num_levels, num_channels = 5, 16  # 2 ** (5 - 1) = 16 pixels a code
    with torch.random.fork_rng(devices=[]):  # the model draws initial weights, which are replaced
        model = VQModel(
            VQConfig(
                block_out_channels=(num_channels,) * num_levels,
                layers_per_block=1,
                latent_channels=8,
                norm_num_groups=num_channels // 2,  # two channels a group, or an image of one code has no deviation
                num_vq_embeddings=num_codes,
                mid_block_add_attention=False,
            )
        )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.fill_(0.5 if name == "decoder.conv_out.bias" else 0.0)
        elif parameter.dim() > 1:
            fan_in = 1 if "embedding" in name else parameter[0].numel()
            gain = 0.5 if name == "decoder.conv_out.weight" else 1.4
            shape = tuple(parameter.shape)
            parameter.data.copy_(seeded.uniform(f"vqvae.{name}", shape, gain / math.sqrt(fan_in)))
    model.save(directory)


def main() -> None:
    """Write a checkpoint as asked on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_checkpoint", description=__doc__)
    parser.add_argument("directory", type=Path)
    for name, default in (write_random_checkpoint.__kwdefaults__ or {}).items():
        kind: dict[str, Any] = {"action": "store_true"} if default is False else {"type": type(default)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, **kind)
    print(write_random_checkpoint(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
