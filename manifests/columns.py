"""The columns a manifest may hold, as one table; ``docs/manifest.md`` shows the same table to people."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """A family of Arrow types that mean the same to us; ``accepted`` names them for people."""

    accepted: str
    accepts: Callable[[pa.DataType], bool]


@dataclass(frozen=True, slots=True)
class Column:
    """One documented column; ``default`` replaces a null or an absent column."""

    name: str
    kind: ColumnKind
    meaning: str
    default: str


def is_text(dtype: pa.DataType) -> bool:
    """Any of Arrow's string layouts, dictionary-encoded or not."""
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype))


def _is_bytes(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_binary_view(dtype))


def _is_image_struct(dtype: pa.DataType) -> bool:
    """``struct<bytes, path>`` as Hugging Face Datasets writes it; a side without any value may have type null."""
    if not pa.types.is_struct(dtype) or sorted(field.name for field in dtype) != ["bytes", "path"]:
        return False
    data, path = dtype.field("bytes").type, dtype.field("path").type
    return (_is_bytes(data) or pa.types.is_null(data)) and (is_text(path) or pa.types.is_null(path))


def _is_image(dtype: pa.DataType) -> bool:
    return is_text(dtype) or _is_bytes(dtype) or _is_image_struct(dtype)


def _is_list(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype))


def is_texts(dtype: pa.DataType) -> bool:
    """A list of any of Arrow's string layouts."""
    return _is_list(dtype) and is_text(dtype.value_type)


def _is_number(dtype: pa.DataType) -> bool:
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def _is_numbers(dtype: pa.DataType) -> bool:
    return _is_list(dtype) and _is_number(dtype.value_type)


def _is_integers(dtype: pa.DataType) -> bool:
    return _is_numbers(dtype) and bool(pa.types.is_integer(dtype.value_type))


TEXT = ColumnKind("string (also large, view or dictionary-encoded)", is_text)
IMAGE = ColumnKind("string (a URI), binary (the file's bytes), or struct<bytes: binary, path: string>", _is_image)
IMAGES = ColumnKind("a list of what `image` may be", lambda dtype: _is_list(dtype) and _is_image(dtype.value_type))
WHOLE = ColumnKind("any integer type; a float type whose values are whole", _is_number)
NUMBER = ColumnKind("any float or integer type", _is_number)
TEXTS = ColumnKind("a list of strings", is_texts)
NUMBERS = ColumnKind("a list of any float or integer type", _is_numbers)
INTEGERS = ColumnKind("a list of any integer type", _is_integers)

COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        column.name: column
        for column in (
            Column("id", TEXT, "name of the row in the output, 1 to 512 characters", "a hash of the row's content"),
            Column("task", TEXT, "what to do; dimoo-batch tasks lists the names", "the job's default task"),
            Column("prompt", TEXT, "the text given to the model", "the job's default prompt, then the task's own"),
            Column("image", IMAGE, "the image given to the model", "none; required where the task needs an image"),
            Column("images", IMAGES, "several images, in this order, in place of image", "none: the row has one image"),
            Column(
                "negative_prompt", TEXT, "what guidance leads away from", "the model's own words for no prompt at all"
            ),
            Column("prompts", TEXTS, "one prompt per turn", "none; required where the task has turns"),
            Column("view_names", TEXTS, "views to make, such as left", "left, right, back"),
            Column("style_image", IMAGE, "the image whose style is wanted", "none; required for style transfer"),
            Column("mask_image", IMAGE, "what to paint: white is painted, black is kept", "none; see masks"),
            Column("mask_box", NUMBERS, "a box of the image in pixels: left, top, right, bottom", "none; see masks"),
            Column("mask_ratio", NUMBERS, "a box in the middle: its shares of width and height", "none; see masks"),
            Column("mask_dilation", WHOLE, "tokens of 16 pixels that the painted part grows on every side", "0"),
            Column("pad_px", NUMBERS, "pixels to add around the image: left, top, right, bottom", "none; see masks"),
            Column("pad_ratio", NUMBERS, "the same as shares of its width and height", "none; see masks"),
            Column(
                "vq_codes", INTEGERS, "VQ codes of the image, row by row", "none; required where the task needs codes"
            ),
            Column("vq_grid", INTEGERS, "rows and columns of vq_codes", "none; required where the task needs codes"),
            Column("width", WHOLE, "width of the generated image in pixels, a multiple of 16", "the job's setting"),
            Column("height", WHOLE, "height of the generated image in pixels, a multiple of 16", "the job's setting"),
            Column("steps", WHOLE, "denoising steps; for text, of all blocks together", "the job's setting"),
            Column("cfg_scale", NUMBER, "classifier-free guidance, 0 is none", "the job's setting"),
            Column("cfg_image_scale", NUMBER, "guidance towards the input image, 0 is none", "the job's setting"),
            Column("temperature", NUMBER, "randomness of sampling, 0 is greedy", "the job's setting"),
            Column(
                "choices", TEXTS, "answers to choose from in one step, 2 to 64", "none: the answer is written freely"
            ),
            Column("caption_detail", TEXT, "detail of a caption: short, detailed or dense", "the job's setting"),
            Column("best_of", WHOLE, "images to make of which the model itself chooses, 2 to 64", "none: no choice"),
            Column("num_samples", WHOLE, "images to make of the row, 1 to 64, each with a seed of its own", "1"),
            Column(
                "keep_images",
                TEXT,
                "which images of several are kept: all, the last turn, or the best of best_of",
                "last or best",
            ),
            Column("seed", WHOLE, "key of the row's randomness, 0 to 2^63-1", "derived from the job's seed and id"),
            Column("preset", TEXT, "which approximations save work, see presets", "the job's preset"),
            Column("max_tokens", WHOLE, "length of the generated text in tokens", "the job's setting"),
            Column(
                "block_length",
                WHOLE,
                "tokens decoded together, a divisor of max_tokens",
                "the job's setting, made smaller to divide the row's max_tokens",
            ),
        )
    }
)
"""Every known column by name. All are optional by themselves; ``schema`` checks when one is required."""
