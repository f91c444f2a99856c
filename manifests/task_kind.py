"""The kinds of tasks, and the columns that rows of each kind take and need."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

PAD_COLUMNS = ("pad_px", "pad_ratio")
"""Columns that say it; a row fills one of them at most."""


MASK_COLUMNS = ("mask_image", "mask_box", "mask_ratio")
"""Columns that say it; a row fills one of them."""


CODE_COLUMNS = ("vq_codes", "vq_grid")
"""Columns that a row of a decoding fills, and that the row of an encoding has in the output."""

TaskKind = Literal[
    "image", "image_to_image", "style", "views", "turns", "painting", "text", "score", "encoding", "decoding"
]

_EDIT_SETTINGS = ("steps", "cfg_scale", "cfg_image_scale", "temperature", "negative_prompt")
_COUNTS = ("num_samples", "best_of", "keep_images")

SETTING_COLUMNS: Mapping[TaskKind, tuple[str, ...]] = MappingProxyType(
    {
        "image": ("width", "height", "steps", "cfg_scale", "temperature", "negative_prompt", *_COUNTS),
        "image_to_image": (*_EDIT_SETTINGS, *_COUNTS),
        "style": ("style_image", *_EDIT_SETTINGS, *_COUNTS),
        "views": ("view_names", *_EDIT_SETTINGS),
        "turns": ("prompts", "keep_images", *_EDIT_SETTINGS),
        "painting": (
            *MASK_COLUMNS,
            *PAD_COLUMNS,
            "mask_dilation",
            "steps",
            "cfg_scale",
            "temperature",
            "negative_prompt",
            *_COUNTS,
        ),
        "text": ("max_tokens", "block_length", "steps", "cfg_scale", "temperature", "choices", "caption_detail"),
        "score": ("max_tokens", "cfg_scale"),
        "encoding": (),
        "decoding": CODE_COLUMNS,
    }
)
"""Columns that set how a result of each kind is made; ``seed`` belongs to every row."""


NEEDED_COLUMNS: Mapping[TaskKind, tuple[str, ...]] = MappingProxyType(
    {"style": ("style_image",), "turns": ("prompts",), "decoding": CODE_COLUMNS}
)
"""Those among them that a row must fill, beside image and prompt."""
