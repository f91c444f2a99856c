"""Everything that can be known of a checkpoint without reading its weights: one check, for whoever asks.

A checkpoint that passes loads, but for weights that are not finite, which is known on reading; one that does not is
refused by the loader in the same words, since the loader asks here first. Needs no torch, so that a driver asks too.
"""

from dataclasses import dataclass
from pathlib import Path

from dimoo_core.checkpoint.lora import check_adapter
from dimoo_core.checkpoint.weight_check import check_codec, check_weights, expected_shapes
from dimoo_core.checkpoint_files import check_files
from dimoo_core.config import ModelConfig, read_model_config
from dimoo_core.errors import WeightsError
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.request.tokens import ImageOffsets, SpecialTokens, image_offsets, read_special_tokens
from dimoo_core.settings import PIXELS_PER_TOKEN
from dimoo_core.vq_config import VQConfig


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CheckedCheckpoint:
    """What a checkpoint says of itself, free of contradictions."""

    directory: Path
    config: ModelConfig
    codec: VQConfig
    tokenizer: Tokenizer
    tokens: SpecialTokens
    num_parameters: int  # of the transformer
    adapter: Path | None

    @property
    def offsets(self) -> ImageOffsets:
        """What was found of the id of VQ code 0."""
        return image_offsets(self.tokenizer, self.config, num_codes=self.codec.num_vq_embeddings)


def check_checkpoint(directory: Path, *, adapter: Path | None = None) -> CheckedCheckpoint:
    """Check a checkpoint and the adapter for it: files, configs, tokenizer, tensors by name and shape, special ids.

    Args:
        directory: Laid out as the published repository.
        adapter: Directory of a LoRA adapter to merge into the transformer.

    Raises:
        WeightsError: Something is missing, damaged, of another kind, or contradicts the rest.
    """
    check_files(directory)
    config = read_model_config(directory / "config.json")
    tokenizer = Tokenizer(directory)
    codec = check_codec(directory / "vqvae")
    if codec.pixels_per_code != PIXELS_PER_TOKEN:
        raise WeightsError(
            f"{directory / 'vqvae'}: one code must stand for {PIXELS_PER_TOKEN} pixels, got {codec.pixels_per_code}"
        )
    num_parameters = check_weights(directory, config)
    tokens = read_special_tokens(tokenizer, config, num_codes=codec.num_vq_embeddings)
    if adapter is not None:
        check_adapter(adapter, expected_shapes(config))
    return CheckedCheckpoint(
        directory=directory,
        config=config,
        codec=codec,
        tokenizer=tokenizer,
        tokens=tokens,
        num_parameters=num_parameters,
        adapter=adapter,
    )
