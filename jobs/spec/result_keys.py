"""Result settings by name: as ``run.json`` has them and as a person sets them; written to and read from it.

A setting that decides results is a field of ``ResultSettings`` or of one of its sections. ``run.json`` has it under the
field's name, or under ``<section>_<field>``; the table below holds the exceptions.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dimoo_core.errors import ConfigError
from jobs.spec.generation import ENGINE_NAMES
from pipeline.protocol.settings import ResultSettings
from pipeline.rows.hooks import hook_digest

_DEFAULTS = "defaults."
_NAMES = {
    "understanding.resolution": "input_resolution",
    "understanding.random_crop": "random_crop",
    "understanding.match_question": "match_question",
    "engine.batch_invariance": "batch_invariance",
    "engine.compile": "compile",
    "pipeline.segment_rows": "segment_rows",
}
"""What ``run.json`` calls keys of the job spec, where it is not ``section_key``."""

_SECTIONS = {field.name: field.default for field in fields(ResultSettings) if is_dataclass(field.default)}
SPEC_KEYS = {
    _NAMES.get(f"{section}.{field.name}", f"{section}_{field.name}"): f"{section}.{field.name}"
    for section, default in _SECTIONS.items()
    for field in fields(default)
} | {name: key for key, name in _NAMES.items()}
_FIELDS_AS_SET = {field: key for key, field in ENGINE_NAMES.items()}
_OPTIONAL = ("compile", "hooks")  # in run.json only where they are used
INTERNAL = tuple(f"defaults.explicit_{section}" for section in ("text_to_image", "image_to_image", "understanding"))


def key_as_set(key: str) -> str:
    """The key of the job spec behind a dotted one of ``results``; the same key where the spec has none."""
    if not key.startswith(_DEFAULTS) or key in INTERNAL:
        return SPEC_KEYS.get(key, key)
    *sections, name = key.removeprefix(_DEFAULTS).split(".")
    return ".".join([*sections, _FIELDS_AS_SET.get(name, name)])


def is_named(key: str, names: Iterable[str]) -> bool:
    """Whether one of these is the key or the beginning of it, in either form."""
    forms = (key, key_as_set(key))
    return any(form == name or form.startswith(f"{name}.") for form in forms for name in names)


def check_names(names: Iterable[str], *results: Mapping[str, Any]) -> None:
    """Refuse names that are no key of these results, nor the beginning of one."""
    known = {form for key in _keys(*results) for form in _beginnings(key)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            sections = sorted({key_as_set(key).partition(".")[0] for key in _keys(*results)})
            hint = f"did you mean {near[0]!r}" if near else f"known: {', '.join(sections)}"
            raise ConfigError(f"--accept-change {name}: no setting of the results has this name; {hint}")


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


def values_of(settings: ResultSettings) -> dict[str, Any]:
    """Result settings as ``run.json`` has them, a section's under ``section_key``; hooks with their files' digests."""
    values = asdict(settings) | {"device": settings.device.partition(":")[0]}
    for section in _SECTIONS:
        of_section = values.pop(section)
        values |= {_NAMES.get(f"{section}.{name}", f"{section}_{name}"): value for name, value in of_section.items()}
    if not values["compile"]:
        del values["compile"]
    hooks = values.pop("hooks")
    if settings.hooks.names:
        values["hooks"] = hooks | {"digests": {name: hook_digest(name) for name in settings.hooks.names}}
    return values


def settings_from(values: Mapping[str, Any]) -> ResultSettings:
    """The result settings of ``run.json``: the inverse of ``values_of``."""
    raw: dict[str, Any] = {field.name: values[field.name] for field in fields(ResultSettings) if field.name in values}
    for name, key in SPEC_KEYS.items():
        section, _, field_name = key.partition(".")
        if section in _SECTIONS and name in values:
            raw.setdefault(section, {})[field_name] = values[name]
    if "hooks" in raw:
        raw["hooks"] = dict(raw["hooks"])
        for name, digest_then in raw["hooks"].pop("digests").items():
            if hook_digest(name) != digest_then:
                raise ConfigError(f"hook {name!r} has changed since the run: its file differs")
    try:
        return TypeAdapter(ResultSettings).validate_json(json.dumps(raw))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"the run was made by another version of dimoo-batch: this one cannot read {key} of its run.json "
            f"({first['msg'][0].lower()}{first['msg'][1:]})"
        ) from error
