"""How to generate with the embedded model, as its ``generation_config.json`` says; chosen on tuning examples."""

from typing import Any

GENERATION: dict[str, dict[str, Any]] = {
    "text_to_image": {"width": 64, "height": 64, "steps": 16, "cfg_scale": 0.5, "temperature": 1.0},
    "image_to_image": {
        "steps": 16,
        "cfg_scale": 0.5,
        "cfg_image_scale": 0.0,
        "temperature": 1.0,
        "resolution": "native",
    },
    "understanding": {"max_tokens": 32, "block_length": 32, "steps": 16, "resolution": "native"},
    "captions": {
        "short": {"prompt": "Describe the image briefly.", "max_tokens": 32},
        "detailed": {"prompt": "Describe the image in detail.", "max_tokens": 32},
        "dense": {"prompt": "List each object and its cell.", "max_tokens": 32},
    },
}
"""Sections of the job spec; an input image keeps its size, since one tile of the world is one code.

Captions are asked for in the world's own words; its dense captions are its detailed ones, which leave nothing out.
"""
