"""Checkpoints that must be refused, how each is broken, and what is said of it.

Each ``apply`` changes a copy of ``tiny_checkpoint``: plain weights in one file.
"""

from dataclasses import dataclass

import torch

from tests.support.checkpoint_damage import (
    CODEC,
    INDEX,
    POINTER,
    QUERY,
    SINGLE,
    TOKENIZER_FILES,
    Break,
    all_of,
    as_directory,
    by_training_code,
    cut,
    dangling,
    edited_json,
    edited_weights,
    emptied,
    held_twice,
    listed_codes,
    moved,
    one_level_down,
    only_adapter,
    only_codec,
    pickled,
    removed,
    renamed_tensors,
    sharded,
    sharded_state,
    with_tokens,
    with_value,
    written,
)


@dataclass(frozen=True, slots=True)
class BrokenCheckpoint:
    """A checkpoint that must be refused, with parts of the message, in order."""

    name: str
    apply: Break
    words: tuple[str, ...]
    known_on_reading: bool = False  # a check that reads no weights cannot see it


BROKEN_CHECKPOINTS = (
    BrokenCheckpoint(
        "all gone",
        emptied,
        ("lacks config.json, tokenizer.json, model.safetensors, vqvae/config.json, vqvae/diffusion",),
    ),
    BrokenCheckpoint("no config", removed("config.json"), ("lacks config.json:", "copy config.json from the base")),
    BrokenCheckpoint(
        "no tokenizer",
        removed("tokenizer.json"),
        ("lacks tokenizer.json:", "copy the tokenizer's files", "from the base"),
    ),
    BrokenCheckpoint(
        "saved by the training code",
        by_training_code,
        (
            "lacks tokenizer.json, vqvae/config.json, vqvae/diffusion_pytorch_model.safetensors:",
            "training code saves weights and config alone",
            "copy the tokenizer's files (tokenizer.json, tokenizer_config.json, …) and vqvae/ from the base checkpoint",
        ),
    ),
    BrokenCheckpoint("sharded state", sharded_state, ("lacks model.safetensors", "__0_0.distcp is sharded state")),
    BrokenCheckpoint(
        "weights as a pickle",
        pickled(SINGLE, "pytorch_model.bin"),
        ("pytorch_model.bin is a pickle, only safetensors are read", "torch.load(weights_only=True)"),
    ),
    BrokenCheckpoint(
        "weights as a consolidated pickle",
        pickled(SINGLE, "consolidated.00-of-01.pth"),
        ("consolidated.00-of-01.pth is a pickle",),
    ),
    BrokenCheckpoint(
        "a pickle called safetensors",
        all_of(pickled(SINGLE, "x.pt"), moved("x.pt", SINGLE)),
        ("model.safetensors is not a readable safetensors file: it is a pickle file",),
    ),
    BrokenCheckpoint(
        "codec as a pickle",
        pickled(CODEC, "vqvae/diffusion_pytorch_model.bin"),
        (f"lacks {CODEC}:", "vqvae/diffusion_pytorch_model.bin is a pickle", "copy vqvae/"),
    ),
    BrokenCheckpoint(
        "codec under another name",
        moved(CODEC, "vqvae/diffusion_pytorch_model.fp16.safetensors"),
        (f"lacks {CODEC}:", "vqvae/diffusion_pytorch_model.fp16.safetensors is not looked at"),
    ),
    BrokenCheckpoint(
        "weights under another name",
        moved(SINGLE, "consolidated.safetensors"),
        ("it holds consolidated.safetensors, rename it to model.safetensors",),
    ),
    BrokenCheckpoint(
        "shards without their index",
        all_of(sharded, removed(INDEX)),
        (
            "lacks model.safetensors",
            "it holds model-00001-of-00002.safetensors",
            "copy its model.safetensors.index.json",
        ),
    ),
    BrokenCheckpoint(
        "a shard is missing",
        all_of(sharded, removed("model-00002-of-00002.safetensors")),
        ("lacks model-00002-of-00002.safetensors:", "model.safetensors.index.json lists them"),
    ),
    BrokenCheckpoint(
        "an index that is none",
        all_of(sharded, written(INDEX, "{}")),
        ("index.json is damaged: no readable weight_map",),
    ),
    BrokenCheckpoint("a tensor twice", held_twice, ("holds a tensor twice: model.transformer.",)),
    BrokenCheckpoint("an adapter", only_adapter, ("is a LoRA adapter, not a checkpoint: set adapter to it",)),
    BrokenCheckpoint("the codec alone", only_codec, ("is the image codec of a checkpoint: give the directory above",)),
    BrokenCheckpoint(
        "one level too high", one_level_down, ("is no checkpoint, but there is one in it: give", "epoch1")
    ),
    *(
        BrokenCheckpoint(
            f"{name} as a git-lfs pointer", written(name, POINTER), (name, "is a git-lfs pointer", "git lfs")
        )
        for name in (SINGLE, CODEC, "config.json", "vqvae/config.json", *TOKENIZER_FILES)
    ),
    *(
        BrokenCheckpoint(f"{name} empty", written(name, ""), (f"{name} is empty: download or copy it again",))
        for name in (SINGLE, CODEC, "config.json", "tokenizer.json")
    ),
    *(
        BrokenCheckpoint(f"{name} a directory", as_directory(name), (f"{name} is a directory where a file must be",))
        for name in (SINGLE, "tokenizer.json", "vqvae/config.json")
    ),
    *(
        BrokenCheckpoint(
            f"{name} a broken link", dangling(name), (f"{name} is a link to ../../blobs/abc, which does not",)
        )
        for name in (SINGLE, CODEC, "tokenizer.json")
    ),
    *(
        BrokenCheckpoint(
            f"{name} cut off", cut(name, 1000), (f"{name} is not a readable safetensors file: it is cut off,",)
        )
        for name in (SINGLE, CODEC)
    ),
    BrokenCheckpoint(
        "a web page", written(SINGLE, "<!DOCTYPE html><html>sign in</html>"), ("safetensors file: it is a web page",)
    ),
    BrokenCheckpoint("tokenizer not JSON", written("tokenizer.json", "{"), ("holds no readable tokenizer", "copy the")),
    BrokenCheckpoint(
        "codec config not JSON", written("vqvae/config.json", "[]"), ("must hold a JSON object, got list",)
    ),
    BrokenCheckpoint(
        "codec of another config",
        edited_json("vqvae/config.json", layers_per_block=2),
        ("tensor encoder.", "is missing, by the config beside it"),
    ),
    BrokenCheckpoint(
        "codec with wrong types",
        edited_json("vqvae/config.json", num_vq_embeddings="8192"),
        ("num_vq_embeddings must be a whole number from 1 to 16777216, got '8192'",),
    ),
    BrokenCheckpoint(
        "names without a prefix",
        renamed_tensors(lambda name: name.removeprefix("model.")),
        (
            "holds 21 of 21 tensors by other names: transformer.",
            "where model.transformer.",
            "is expected; save the whole",
        ),
    ),
    BrokenCheckpoint(
        "names of a model in parallel",
        renamed_tensors(lambda name: f"module.{name}"),
        ("by other names: module.model.transformer.", "save the model inside of its wrapper (module)"),
    ),
    BrokenCheckpoint(
        "names of a compiled model",
        renamed_tensors(lambda name: f"_orig_mod.{name}"),
        ("by other names: _orig_mod.model.transformer.", "save the model inside of its wrapper (_orig_mod)"),
    ),
    BrokenCheckpoint(
        "names with wrapped layers",
        renamed_tensors(lambda name: name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module.")),
        ("holds 9 of 21 tensors by other names:", "save the model inside of its wrapper (_checkpoint_wrapped_module)"),
    ),
    BrokenCheckpoint(
        "names of PEFT",
        renamed_tensors(lambda name: f"base_model.model.{name}"),
        ("by other names: base_model.model.model.transformer.", "save what PEFT's merge_and_unload gives"),
    ),
    BrokenCheckpoint(
        "an adapter beside its base",
        renamed_tensors(lambda name: f"base_model.model.{name}".replace("q_proj.", "q_proj.base_layer.")),
        ("holds an adapter beside its base weights, not merged into them",),
    ),
    BrokenCheckpoint(
        "another architecture",
        renamed_tensors(lambda name: name.replace("transformer.blocks", "layers").replace("_proj", "")),
        ("lacks 18 tensors: model.transformer.blocks.0", "it holds 18 others: model.layers.0"),
    ),
    BrokenCheckpoint(
        "quantised",
        edited_weights(lambda weights: weights.update({QUERY.replace("weight", "qweight"): weights.pop(QUERY)})),
        ("holds quantised weights: model.transformer.blocks.0.q_proj.qweight",),
    ),
    BrokenCheckpoint(
        "weights of 8 bits",
        edited_weights(lambda weights: weights.update({QUERY: weights[QUERY].to(torch.float8_e4m3fn)})),
        (f"{QUERY} must be F32, F16 or BF16, got F8_E4M3",),
    ),
    BrokenCheckpoint(
        "a tensor too many",
        edited_weights(lambda weights: weights.update({"lm_head.weight": torch.ones(1)})),
        ("holds 1 tensors that its config does not explain: lm_head.weight",),
    ),
    BrokenCheckpoint(
        "a tensor of another shape",
        edited_weights(lambda weights: weights.update({QUERY: torch.ones(3, 64)})),
        (f"{QUERY} must have shape (64, 64) by the config, got (3, 64)",),
    ),
    *(
        BrokenCheckpoint(
            f"{value} in the weights",
            edited_weights(with_value(QUERY, value)),
            (f"{SINGLE}: {QUERY} holds values that are not finite", "download or copy it again"),
            known_on_reading=True,
        )
        for value in (float("nan"), float("inf"), float("-inf"))
    ),
    BrokenCheckpoint(
        "NaN in the codec",
        edited_weights(with_value("quantize.embedding.weight", float("nan")), CODEC),
        (f"{CODEC}: quantize.embedding.weight holds values that are not finite",),
        known_on_reading=True,
    ),
    BrokenCheckpoint(
        "a key that says where codes cannot be",
        edited_json("config.json", image_token_offset=400),
        ("VQ codes at ids 400 to 8591 do not fit the 8589 rows", "set image_token_offset"),
    ),
    BrokenCheckpoint(
        "a key that contradicts the tokenizer",
        all_of(edited_json("config.json", image_token_offset=396), with_tokens(listed_codes(397, range(8192)))),
        ("image_token_offset in config.json: 396, codes listed by the tokenizer: 397",),
    ),
    BrokenCheckpoint(
        "tokens after the vocabulary that nothing explains",
        with_tokens(listed_codes(397, range(3))),
        ("the id of VQ code 0 is not known", "after the tokenizer's last id: 400", "set image_token_offset"),
    ),
    BrokenCheckpoint(
        "a code left out of the list",
        with_tokens(listed_codes(398, range(1, 8192))),
        ("gives '<|image_1|>' the id 398, but it is read as 397",),
    ),
    BrokenCheckpoint(
        "a special token missing",
        with_tokens(
            lambda tokens: tokens.pop(next(i for i, each in enumerate(tokens) if each["content"] == "<IMAGE>"))
        ),
        ("tokenizer.json gives", "but it is read as"),
    ),
    BrokenCheckpoint(
        "a special token called otherwise",
        with_tokens(lambda tokens: [each.update(content="<image>") for each in tokens if each["content"] == "<IMAGE>"]),
        ("the tokenizer has no token '<IMAGE>' for image_begin",),
    ),
    *(
        BrokenCheckpoint(f"{key} {value}", edited_json("config.json", **{key: value}), (f"config.json: {key} must be",))
        for key, value in (
            ("n_layers", 10**9),
            ("rope_theta", None),
            ("rms_norm_eps", "1e-5"),
            ("image_token_offset", "397"),
            ("d_model", 64.0),
            ("weight_tying", True),
        )
    ),
)
