"""Names of what decides the results of a run: as ``run.json`` has them, and as a person sets them."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dimoo_core.errors import ConfigError

_DEFAULTS = "defaults."
_AS_SET = {
    "batch_invariance": "engine.batch_invariance",
    "compile": "engine.compile",
    "image_format": "image.format",
    "image_quality": "image.quality",
    "image_to_image_random_crop": "image_to_image.random_crop",
    "image_to_image_resolution": "image_to_image.resolution",
    "input_resolution": "understanding.resolution",
    "match_question": "understanding.match_question",
    "random_crop": "understanding.random_crop",
    "segment_rows": "pipeline.segment_rows",
    "tokenize_random_crop": "tokenize.random_crop",
    "tokenize_resolution": "tokenize.resolution",
}
_FIELDS_AS_SET = {"height_px": "height", "num_steps": "steps", "width_px": "width"}
_OPTIONAL = ("compile", "hooks")  # in run.json only where they are used
_INTERNAL = tuple(f"defaults.explicit_{section}" for section in ("text_to_image", "image_to_image", "understanding"))


def key_as_set(key: str) -> str:
    """The key of the job spec behind a dotted one of ``results``; the same key where the spec has none."""
    if not key.startswith(_DEFAULTS) or key in _INTERNAL:
        return _AS_SET.get(key, key)
    *sections, name = key.removeprefix(_DEFAULTS).split(".")
    return ".".join([*sections, _FIELDS_AS_SET.get(name, name)])


def is_named(key: str, names: Iterable[str]) -> bool:
    """Whether one of these is the key or the beginning of it, in either form."""
    forms = (key, key_as_set(key))
    return any(form == name or form.startswith(f"{name}.") for form in forms for name in names)


def check_names(names: Iterable[str], *results: Mapping[str, Any]) -> None:
    """Refuse names that are no key of these results, nor the beginning of one.

    Raises:
        ConfigError: One is none; names the nearest.
    """
    known = {form for key in _keys(*results) for form in _beginnings(key)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            sections = sorted({key_as_set(key).partition(".")[0] for key in _keys(*results)})
            hint = f"did you mean {near[0]!r}" if near else f"known: {', '.join(sections)}"
            raise ConfigError(f"--accept-change {name}: nothing that decides results has this name; {hint}")


def _keys(*results: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    yield from () if prefix else _OPTIONAL
    for each in results:
        for key, value in each.items():
            yield f"{prefix}{key}"
            if isinstance(value, Mapping):
                yield from _keys(value, prefix=f"{prefix}{key}.")


def _beginnings(key: str) -> Iterator[str]:
    for form in (key, key_as_set(key)):
        parts = form.split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
