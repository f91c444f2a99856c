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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dimoo_core.errors import ConfigError
from dimoo_core.request import Request
from dimoo_core.settings import ImageSettings, StepCacheConfig, TextSettings
from dimoo_core.tokens import SpecialTokens

_PACKAGES = ("model", "generators", "utils")
_END_OF_TEXT = 126_081
"""The id at which the reference's text generator stops with a NameError, whatever the tokenizer says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneState:
    """What the clone is: its commit, and which of its files differ from that commit (None: not a git clone)."""

    commit: str | None
    changed: tuple[str, ...] | None


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
        checkpoint: Read in float32.
        tokens: Special ids of the checkpoint.

    Raises:
        ConfigError: If the directory is no clone, or a module of another origin has one of the names it needs.
    """

    def __init__(self, directory: Path, checkpoint: Path, tokens: SpecialTokens) -> None:
        self._tokens = tokens
        directory = directory.resolve()
        model = _module(directory, "model")
        config = _module(directory, "model.configuration_llada")
        self._generate_image: Any = _module(directory, "generators.image_generation_generator").generate_image
        self._generate_text: Any = _module(directory, "generators.text_understanding_generator")
        raw = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        if raw["vocab_size"] > _END_OF_TEXT:
            raise ConfigError(
                f"{checkpoint}: a vocabulary above {_END_OF_TEXT} ids can break off the reference's texts"
            )
        logging.getLogger("transformers").setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its whole configuration
            self._model: Any = model.LLaDAForMultiModalGeneration(config.LLaDAConfig(**raw))
        weights: dict[str, Tensor] = {}
        for path in sorted(checkpoint.glob("*.safetensors")):
            weights |= load_file(path)
        self._model.load_state_dict(weights, strict=True)
        self._model.float().eval()

    def image(self, request: Request, generator: torch.Generator, cache: StepCacheConfig | None) -> Tensor:
        """VQ codes of a text-to-image request with guidance, row by row; noise is drawn from ``generator``."""
        settings = request.settings
        assert isinstance(settings, ImageSettings)
        cond, uncond = request.streams
        newline_every = int((request.target == self._tokens.newline).nonzero()[0])
        num_codes = int((request.target != self._tokens.newline).sum())
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
            cond.around(request.target)[None],
            seq_len=num_codes,
            newline_every=newline_every,
            timesteps=settings.num_steps,
            mask_token_id=self._tokens.mask,
            newline_id=self._tokens.newline,
            temperature=settings.temperature,
            cfg_scale=settings.cfg_scale,
            uncon_ids=uncond.prefix[None, :-2],  # it adds the begin tokens itself
            code_start=len(cond.prefix),
            codebook_size=self._tokens.num_codes,
            generator=generator,
            **caching,
        )
        return ids[0] - self._tokens.image_offset

    def answer(self, request: Request) -> Tensor:
        """Token ids of an answer without guidance, at temperature 0."""
        settings = request.settings
        assert isinstance(settings, TextSettings)
        (stream,) = request.streams
        start = len(stream.prefix)
        ids: Tensor = self._generate_text.generate_text_understanding(
            self._model,
            stream.around(request.target)[None],
            steps=settings.steps_per_block * settings.num_blocks,
            gen_length=settings.max_tokens,
            block_length=settings.block_length,
            temperature=settings.temperature,
            mask_id=self._tokens.mask,
            code_start=start,
        )
        return ids[0, start : start + settings.max_tokens]


def _module(directory: Path, name: str) -> Any:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{directory} is no clone of the reference: it has no module {name!r}") from error
    if module.__file__ is None or not Path(module.__file__).resolve().is_relative_to(directory):
        raise ConfigError(f"module {name!r} comes from {module.__file__}, not from the clone in {directory}")
    return module
