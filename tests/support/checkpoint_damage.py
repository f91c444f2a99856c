"""Steps that break a copy of a checkpoint, as savers, downloads and people break them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CODEC = "vqvae/diffusion_pytorch_model.safetensors"
QUERY = "model.transformer.blocks.0.q_proj.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 16160000000\n"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

Break = Callable[[Path], object]


def edited_weights(edit: Callable[[dict[str, Tensor]], object], name: str = SINGLE) -> Break:
    """Save a weight file again with other tensors."""

    def apply(directory: Path) -> None:
        weights = load_file(directory / name)
        edit(weights)
        save_file(weights, directory / name, {"format": "pt"})

    return apply


def renamed_tensors(rename: Callable[[str], str]) -> Break:
    """Save the transformer's weights under other names."""

    def edit(weights: dict[str, Tensor]) -> None:
        for name in list(weights):
            weights[rename(name)] = weights.pop(name)

    return edited_weights(edit)


def edited_json(name: str, **changes: Any) -> Break:
    """Change keys of a JSON file."""

    def apply(directory: Path) -> None:
        path = directory / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return apply


def with_tokens(change: Callable[[list[dict[str, Any]]], object]) -> Break:
    """Change the added tokens of ``tokenizer.json``, each a dict with ``id`` and ``content``."""

    def apply(directory: Path) -> None:
        path = directory / "tokenizer.json"
        content = json.loads(path.read_text())
        change(content["added_tokens"])
        path.write_text(json.dumps(content))

    return apply


def listed_codes(first: int, codes: range) -> Callable[[list[dict[str, Any]]], object]:
    """VQ codes as tokens, the ids counted from ``first`` on."""
    return lambda tokens: tokens.extend(
        tokens[-1] | {"id": first + number, "content": f"<|image_{code}|>"} for number, code in enumerate(codes)
    )


def written(name: str, content: str | bytes) -> Break:
    """Another content of a file."""

    def apply(directory: Path) -> None:
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return apply


def cut(name: str, num_bytes: int) -> Break:
    """A file without its end."""

    def apply(directory: Path) -> None:
        data = (directory / name).read_bytes()
        (directory / name).write_bytes(data[: len(data) - num_bytes])

    return apply


def removed(*names: str) -> Break:
    """Without these files and directories."""

    def apply(directory: Path) -> None:
        for name in names:
            path = directory / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return apply


def moved(old: str, new: str) -> Break:
    """A file under another name."""
    return lambda directory: (directory / old).rename(directory / new)


def all_of(*steps: Break) -> Break:
    """Several of them."""

    def apply(directory: Path) -> None:
        for step in steps:
            step(directory)

    return apply


def sharded(directory: Path) -> None:
    """The weights in two files with an index."""
    weights = load_file(directory / SINGLE)
    weight_map: dict[str, str] = {}
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2]), 1):
        file_name = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, directory / file_name)
        weight_map |= dict.fromkeys(names, file_name)
    (directory / SINGLE).unlink()
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def pickled(name: str, into: str) -> Break:
    """A weight file as a pickle."""

    def apply(directory: Path) -> None:
        torch.save(load_file(directory / name), directory / into)
        (directory / name).unlink()

    return apply


def as_directory(name: str) -> Break:
    """A directory in the place of a file."""
    return all_of(removed(name), lambda directory: (directory / name).mkdir())


def dangling(name: str) -> Break:
    """A link to nothing in the place of a file, as a cache that was half deleted has them."""
    return all_of(removed(name), lambda directory: (directory / name).symlink_to("../../blobs/abc"))


def only_adapter(directory: Path) -> None:
    """An adapter's files and nothing else."""
    emptied(directory)
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    save_file({"base_model.model.x.lora_A.weight": torch.ones(4, 4)}, directory / "adapter_model.safetensors")


def only_codec(directory: Path) -> None:
    """What ``vqvae/`` holds, one level up."""
    for path in list((directory / "vqvae").iterdir()):
        path.rename(directory / path.name)
    removed("vqvae", SINGLE, *TOKENIZER_FILES)(directory)


def one_level_down(directory: Path) -> None:
    """Everything in a subdirectory, as a trainer's output has it."""
    paths = list(directory.iterdir())
    (directory / "epoch1").mkdir()
    for path in paths:
        path.rename(directory / "epoch1" / path.name)


def by_training_code(directory: Path) -> None:
    """What the official training code saves: weights, config, its arguments, states of the optimizer."""
    removed("vqvae", *TOKENIZER_FILES)(directory)
    (directory / "args.json").write_text("{}")
    torch.save({}, directory / "optimizer.00000-of-00002.pth")
    torch.save({}, directory / "additional_rank_common.pth")


def sharded_state(directory: Path) -> None:
    """What a training with sharded state saves."""
    removed(SINGLE)(directory)
    (directory / "__0_0.distcp").write_bytes(b"state")
    (directory / ".metadata").write_bytes(b"state")


def held_twice(directory: Path) -> None:
    """One tensor in both files."""
    sharded(directory)
    first, second = (directory / f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    name = min(load_file(first))
    save_file(load_file(second) | {name: load_file(first)[name]}, second)


def emptied(directory: Path) -> None:
    """Nothing left."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def with_value(name: str, value: float) -> Callable[[dict[str, Tensor]], object]:
    """An edit that makes a tensor's last number another."""
    return lambda weights: weights[name].view(-1)[-1:].fill_(value)
