"""The official implementation, imported as it is from a clone that the user points to; none of it is kept here.

Nothing of it is patched: its modules are found through ``sys.path``, as its own scripts do it, and its classes and
functions are called with arguments of this module's making. Current releases of transformers need no shim either, since
weights are put into its model by name, without ``from_pretrained``.
"""

import contextlib
import importlib
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from dimoo_core.errors import ConfigError
from dimoo_core.request.request import Request
from dimoo_core.request.tokens import SpecialTokens
from dimoo_core.settings import ImageSettings, StepCacheConfig, TextSettings

_PACKAGES = ("model", "generators", "utils")
_END_OF_TEXT = 126_081
"""The id at which the reference's text generator stops with a NameError, whatever the tokenizer says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneState:
    """What the clone is: its commit, and which of its files differ from that commit (None: not a git clone)."""

    commit: str | None
    changed: tuple[str, ...] | None

    def __str__(self) -> str:
        changed = "not a git clone" if self.changed is None else ", ".join(self.changed) or "unmodified"
        return f"{self.commit or 'of unknown commit'} ({changed})"


def clone_state(directory: Path) -> CloneState:
    """Ask git about the packages that are used here."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(directory), *arguments]
        try:
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip()
        except (OSError, subprocess.CalledProcessError):
            return None

    changed = git("status", "--porcelain", "--untracked-files=no", "--", *_PACKAGES)
    return CloneState(
        commit=git("rev-parse", "HEAD"),
        changed=None if changed is None else tuple(line[3:] for line in changed.splitlines()),
    )


class ReferenceClone:
    """The reference's model with a checkpoint's weights, and its generation functions.

    Args:
        directory: A clone of the official repository.
        checkpoint: Its config and its weights; every safetensors file of it is read.
        tokens: Special ids of the checkpoint.
        device: Where the weights go.
        dtype: What they become; the reference's scripts take bfloat16.

    Raises:
        ConfigError: If the directory is no clone, or a module of another origin has one of the names it needs.
    """

    def __init__(
        self,
        directory: Path,
        checkpoint: Path,
        tokens: SpecialTokens,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._tokens = tokens
        self._device = torch.device(device)
        model = clone_module(directory, "model")
        config = clone_module(directory, "model.configuration_llada")
        internals = clone_module(directory, "model.modeling_llada")
        self._generate_image: Any = clone_module(directory, "generators.image_generation_generator").generate_image
        self._generate_edit: Any = clone_module(directory, "generators.image_to_image_generator").generate_i2i
        self._generate_text: Any = clone_module(directory, "generators.text_understanding_generator")
        raw = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        logging.getLogger("transformers").setLevel(logging.ERROR)
        hub_config = config.LLaDAConfig(**raw)
        sizes = internals.create_model_config_from_pretrained_config(hub_config)
        sizes.init_device = "meta"  # weights are assigned: 8 billion numbers need not be drawn before
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its whole configuration
            inner = internals.LLaDAModel(sizes, init_params=False)
            self._model: Any = model.LLaDAForMultiModalGeneration(hub_config, model=inner)
        self._model.load_state_dict(_read_weights(checkpoint, self._device, dtype), strict=True, assign=True)
        self._model.eval()

    @contextlib.contextmanager
    def watched(self, request: Request) -> Iterator[list[Tensor]]:
        """The request's target as each forward pass of the conditional stream sees it, in a list that fills itself."""
        prefix = request.sequences[0].prefix.to(self._device)
        start, end = len(prefix), len(prefix) + len(request.target)
        length = len(request.sequences[0].around(request.target))
        states: list[Tensor] = []

        def see(_module: object, arguments: tuple[Tensor, ...]) -> None:
            ids = arguments[0][0]
            if len(ids) == length and torch.equal(ids[:start], prefix):
                states.append(ids[start:end].cpu().clone())

        handle = self._model.register_forward_pre_hook(see)
        try:
            yield states
        finally:
            handle.remove()

    def image(self, request: Request, generator: torch.Generator, cache: StepCacheConfig | None) -> Tensor:
        """VQ codes of an image with guidance, row by row, on the CPU; noise is drawn from ``generator``.

        Args:
            request: Text to image, all of it or a part; with three streams, image to image.
            generator: On the device of the weights.
            cache: The reference has one for text to image only.
        """
        if len(request.sequences) == 3:
            return self._image_from_images(request, generator)
        cond, uncond = request.sequences
        caching = {}
        if cache is not None:
            caching = {
                "use_cache": True,
                "cache_ratio": cache.reuse_ratio,
                "refresh_interval": cache.refresh_interval,
                "warmup_ratio": cache.warmup_ratio,
            }
        ids: Tensor = self._generate_image(
            self._model,
            cond.around(request.target)[None].to(self._device),
            uncon_ids=uncond.prefix[None, :-2],  # it adds the begin tokens itself
            generator=generator,
            **self._image_arguments(request),
            **caching,
        )
        return ids[0].cpu() - self._tokens.image_offset

    def _image_from_images(self, request: Request, generator: torch.Generator) -> Tensor:
        cond, without_text, without_images = request.sequences
        settings = request.settings
        assert isinstance(settings, ImageSettings)
        ids: Tensor = self._generate_edit(
            self._model,
            cond.around(request.target)[None].to(self._device),
            uncon_text=without_text.prefix[None, :-2],
            uncon_image=without_images.prefix[None, :-2],
            cfg_img=settings.cfg_image_scale,
            generator=generator,
            **self._image_arguments(request),
        )
        return ids[0].cpu() - self._tokens.image_offset

    def _image_arguments(self, request: Request) -> dict[str, object]:
        settings = request.settings
        assert isinstance(settings, ImageSettings)
        return {
            "seq_len": int((request.target != self._tokens.newline).sum()),
            "newline_every": int((request.target == self._tokens.newline).nonzero()[0]),
            "timesteps": settings.num_steps,
            "mask_token_id": self._tokens.mask,
            "newline_id": self._tokens.newline,
            "temperature": settings.temperature,
            "cfg_scale": settings.cfg_scale,
            "code_start": len(request.sequences[0].prefix),
            "codebook_size": self._tokens.num_codes,
        }

    def answer(self, request: Request) -> Tensor:
        """Token ids of an answer without guidance, at temperature 0, on the CPU.

        Where the sequence holds id 126081 after a block, the reference raises a NameError in place of stopping. The
        ids are then those of that moment, which it has written into the tensor that it was given: the blocks that it
        had not begun are masks.
        """
        settings = request.settings
        assert isinstance(settings, TextSettings)
        (each,) = request.sequences
        start = len(each.prefix)
        sequence = each.around(request.target)[None].to(self._device)
        try:
            self._generate_text.generate_text_understanding(
                self._model,
                sequence,
                steps=settings.steps_per_block * settings.num_blocks,
                gen_length=settings.max_tokens,
                block_length=settings.block_length,
                temperature=settings.temperature,
                mask_id=self._tokens.mask,
                code_start=start,
            )
        except NameError:
            if not bool((sequence == _END_OF_TEXT).any()):
                raise
        return sequence[0, start : start + settings.max_tokens].cpu()


def _read_weights(checkpoint: Path, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(path, framework="pt", device=str(device)) as file:
            weights |= {name: file.get_tensor(name).to(dtype) for name in file.keys()}  # noqa: SIM118, no mapping
    return weights


def clone_module(directory: Path, name: str) -> Any:
    """A module of the clone, by its own name.

    Raises:
        ConfigError: If the directory is no clone, a package that the module needs is not installed, or a module of
            another origin has the name.
    """
    directory = directory.resolve()
    place = directory.joinpath(*name.split("."))
    if not (place.with_name(f"{place.name}.py").is_file() or place.joinpath("__init__.py").is_file()):
        raise ConfigError(f"{directory} is no clone of the reference: it has no module {name!r}")
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ConfigError(f"the reference's module {name!r} needs {package!r}: pip install {package}") from error
    if module.__file__ is None or not Path(module.__file__).resolve().is_relative_to(directory):
        raise ConfigError(f"module {name!r} comes from {module.__file__}, not from the clone in {directory}")
    return module
