"""How much memory a model and its work take, in closed form, before a byte of weights is read.

Importable without torch. Every part is counted as what is allocated for certain and stays allocated while something
else is; what an allocator keeps beside it is left out, so that the sum errs on the low side. How far off it is, was
measured: docs/numerics.md.

Source: the shapes of ``transformer.Block``, ``step_batch``, ``vq_model`` and ``adapter.Adapter.merged``.
Symbols: E hidden size, K width of keys, F MLP, T tokens of a step, R positions that are read, V columns of the head.
"""

import math
from dataclasses import dataclass

from dimoo_core.model_config import ModelConfig, VQConfig
from dimoo_core.settings import PIXELS_PER_TOKEN, DtypeName, ImageSettings, TextSettings

MIB, GIB = 2**20, 2**30
ITEM_BYTES: dict[DtypeName, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}
_FLOAT32_BYTES = 4
_PROCESS_BYTES = 200 * MIB  # Python, torch and the tokenizer, without files that other processes map as well
_TILE_ROWS, _TILE_BYTES = 512, 12 * MIB  # of the MLP on a CPU: row_invariance.even_tiles
_SAMPLED_COPIES = 5  # of one sequence's logits: guided, noise, scores, and what sampling makes of them
_MERGED_COPIES = 4  # of a matrix in float32: itself, the adapter's product, their sum, and the one merged before
_DECODED_TENSORS = 3  # of an image at full resolution before its last level: two of a residual block, one of its norm


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestShape:
    """What of a request takes memory.

    Attributes:
        num_sequences: With a prompt, without.
        num_tokens: Of all sequences.
        num_read: Positions of one sequence whose logits are read.
        num_columns: Of the head, that are read.
        image_px: Pixels of the image that is made, or of the largest one that is read.
        keeps: Whether keys and values are kept between steps.
    """

    num_sequences: int
    num_tokens: int
    num_read: int
    num_columns: int
    image_px: int
    keeps: bool = False

    @classmethod
    def of_image(cls, settings: ImageSettings, image_px: int, source_px: int, num_columns: int) -> "RequestShape":
        """Of an image of so many pixels from others of so many together; prompts are not counted.

        Args:
            settings: Its guidance decides how many sequences there are.
        """
        codes, sources = image_px // PIXELS_PER_TOKEN**2, source_px // PIXELS_PER_TOKEN**2
        num_sequences = 1 + (settings.cfg_scale > 0)
        without_sources = int(source_px > 0 and settings.cfg_image_scale > 0)
        return cls(
            num_sequences=num_sequences + without_sources,
            num_tokens=num_sequences * (codes + sources) + without_sources * codes,
            num_read=codes,
            num_columns=num_columns,
            image_px=max(image_px, source_px),
            keeps=settings.step_cache is not None,
        )

    @classmethod
    def of_text(cls, settings: TextSettings, source_px: int, num_columns: int) -> "RequestShape":
        """Of an answer about images of so many pixels together; the question is not counted."""
        num_sequences = 1 + (settings.cfg_scale > 0)
        return cls(
            num_sequences=num_sequences,
            num_tokens=num_sequences * (source_px // PIXELS_PER_TOKEN**2 + settings.max_tokens),
            num_read=settings.block_length,
            num_columns=num_columns,
            image_px=source_px,
            keeps=settings.cache is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """What one worker needs; two workers need twice that.

    Attributes:
        config: The transformer's shape.
        codec: The image codec's.
        dtype: Of the weights.
        device: As torch names it.
        shape: Of the largest request, as far as it is known before.
        num_requests: How many there are at most; as many as these fill a step.
        max_step_tokens: Of the engine.
        adapter_bytes: Of the adapter's file, which stays in memory while weights are read.
        adapted_numbers: Of the largest matrix that the adapter changes.
        largest_file_bytes: Of the weight files, which are mapped one after the other.
    """

    config: ModelConfig
    codec: VQConfig
    dtype: DtypeName
    device: str
    shape: RequestShape
    num_requests: int = 1
    max_step_tokens: int = 16_384
    adapter_bytes: int = 0
    adapted_numbers: int = 0
    largest_file_bytes: int = 0

    @property
    def is_on_host(self) -> bool:
        """Whether the model is in the machine's own memory."""
        return not self.device.startswith("cuda")

    @property
    def parts(self) -> dict[str, int]:
        """Bytes where the model is, by what they are for; adapters are merged on the host."""
        found = {
            f"weights in {self.dtype}": weight_bytes(self.config, self.dtype),
            "the image codec": _FLOAT32_BYTES * self.codec.num_parameters,
            "its work on one image": self.codec_work_bytes,
            "one step": self.step_bytes,
            "what a request keeps": self.kept_bytes,
        }
        if self.is_on_host:
            found["the adapter"] = self.merging_bytes
        return {words: num_bytes for words, num_bytes in found.items() if num_bytes}

    @property
    def model_bytes(self) -> int:
        """All of ``parts``."""
        return sum(self.parts.values())

    @property
    def host_bytes(self) -> int:
        """Of the machine's memory, the process itself included."""
        return _PROCESS_BYTES + (self.model_bytes if self.is_on_host else self.merging_bytes)

    def more_host_bytes(self, resident_bytes: int) -> int:
        """The same for a process that has taken so many already."""
        return self.host_bytes - min(_PROCESS_BYTES, resident_bytes)

    @property
    def merging_bytes(self) -> int:
        """What an adapter takes while weights are read: its own matrices, and copies of the largest one it changes."""
        return self.adapter_bytes + _MERGED_COPIES * _FLOAT32_BYTES * self.adapted_numbers

    @property
    def codec_work_bytes(self) -> int:
        """Activations of the decoder's last level but one, at full resolution: the most that it holds at a time."""
        channels = max(self.codec.block_out_channels[:2])
        return _DECODED_TENSORS * _FLOAT32_BYTES * channels * self.shape.image_px

    @property
    def step_bytes(self) -> int:
        """Activations of one layer, or logits and what is sampled from them, whichever is more.

        On a CPU a step is as large as requests fill it: one that does not fit ends the process. On a GPU it is one
        request: a larger one that does not fit is halved.
        """
        shape, item = self.shape, ITEM_BYTES[self.dtype] if self.dtype != "float8" else 2
        filling = min(self.num_requests, self.max_step_tokens // max(1, shape.num_tokens))
        num_requests = max(1, filling) if self.is_on_host else 1
        num_tokens = num_requests * shape.num_tokens
        num_read = num_requests * shape.num_sequences * shape.num_read
        logits = num_read * shape.num_columns * _FLOAT32_BYTES
        cast = num_read * shape.num_columns * (item if item != _FLOAT32_BYTES else 0)
        sampled = _SAMPLED_COPIES * shape.num_read * shape.num_columns * _FLOAT32_BYTES
        return max(self._layer_bytes(num_tokens, item), logits + max(cast, sampled))

    def _layer_bytes(self, num_tokens: int, item: int) -> int:
        """Of the residual stream, its norm, queries, keys and values, rotated ones and what attention gives; or MLP."""
        size, kv, mlp = self.config.hidden_size, self.config.kv_size, self.config.mlp_size
        tile = max(_TILE_ROWS, _TILE_BYTES // (2 * mlp * item)) if self.is_on_host else num_tokens
        attention = num_tokens * (5 * size + 3 * kv) * item
        return max(attention, (2 * num_tokens * size + min(tile, num_tokens) * 3 * mlp) * item)

    @property
    def kept_bytes(self) -> int:
        """Keys and values of one request in every layer."""
        if not self.shape.keeps:
            return 0
        item = 2 if self.dtype == "float8" else ITEM_BYTES[self.dtype]
        return 2 * self.config.num_layers * self.config.kv_size * self.shape.num_tokens * item

    def words(self) -> str:
        """The parts in one line, the largest first."""
        by_size = sorted(self.parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{words} {size_words(num_bytes)}" for words, num_bytes in by_size)


def weight_bytes(config: ModelConfig, dtype: DtypeName) -> int:
    """Memory of a transformer's weights; with ``float8`` only the matrices of the layers are, with a scale a row."""
    size, kv, mlp = config.hidden_size, config.kv_size, config.mlp_size
    beside = 2 * config.num_embeddings * size + size + 2 * config.num_layers * size
    matrices = config.num_layers * (2 * size * size + 2 * kv * size + 3 * mlp * size)
    if dtype != "float8":
        return (beside + matrices) * ITEM_BYTES[dtype]
    scales = config.num_layers * (3 * size + 2 * kv + 2 * mlp)
    return 2 * beside + matrices + _FLOAT32_BYTES * scales


def can_be_float8(config: ModelConfig) -> bool:
    """Whether the sides of every matrix are what its product needs: ``float8_weight``."""
    return not math.gcd(config.hidden_size, config.kv_size, config.mlp_size) % 16


def size_words(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / GIB:,.1f} GiB" if num_bytes >= GIB else f"{num_bytes / MIB:,.0f} MiB"
