"""The value of ``--set KEY=VALUE``: in YAML, except that text stays as it is written where text is wanted."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel

from dimoo_core.errors import ConfigError


def apply_override(raw: dict[str, Any], override: str, model: type[BaseModel]) -> None:
    """Put ``dotted.key=value`` into ``raw``, which ``model`` will read."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set needs key=value, got {override!r}")
    *sections, name = key.split(".")
    target = raw
    wanted: Any = model
    for section in sections:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {key}: {section!r} is a value, not a section")
        target, wanted = inner, kind_of(wanted, section)
    target[name] = override_value(key, text.strip(), kind_of(wanted, name))


def override_value(key: str, text: str, wanted: Any = object) -> Any:
    """The value that a text means in YAML; without quotes it stays text, whatever colons and hashes it holds.

    Args:
        wanted: A type. Where it is text, or a list of texts, so is the value: ``yes``, ``2024`` and ``1.50`` stay what
            they are.
    """
    is_plain = not text.startswith(("'", '"', "[", "{"))
    try:
        value: object = yaml.safe_load(text)
        written: object = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        if is_plain:
            return text
        raise ConfigError(f"--set {key}: {text!r} is not a value in YAML") from error
    if is_plain and isinstance(written, str | dict):
        is_text = isinstance(value, str | dict) or (value is not None and _is_text(wanted))
        return text if is_text else value
    return _as_wanted(value, written, wanted)


def _as_wanted(value: Any, written: Any, wanted: Any) -> Any:
    """The value, with what is written in place of it where text is wanted, also inside sections."""
    if value is None:
        return None
    if _is_text(wanted):
        return written
    if isinstance(value, dict) and isinstance(written, dict) and len(value) == len(written):
        pairs = zip(value.items(), written.values(), strict=True)
        return {key: _as_wanted(inner, text, kind_of(wanted, key)) for (key, inner), text in pairs}
    return value


def section_fields(kind: type) -> dict[str, Any]:
    """The types of a section's fields by their names, be it a model of pydantic's or a dataclass; of others none."""
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return dict(get_type_hints(kind)) if is_dataclass(kind) else {}


def kind_of(wanted: Any, key: object) -> Any:
    """The type of what a section has under a key; ``object`` where nothing is known of it."""
    for branch in _branches(wanted):
        if get_origin(branch) in (dict, Mapping):
            return get_args(branch)[1]
        if isinstance(branch, type) and (kind := section_fields(branch).get(str(key))) is not None:
            return kind
    return object


def kinds_of(wanted: Any) -> list[type]:
    """The types, sections among them, that a value of this type may have."""
    return [branch for branch in _branches(wanted) if isinstance(branch, type)]


def literals_of(kind: type) -> set[Any]:
    """The words by which unions tell a section from others: values of its fields that take nothing else."""
    fields = section_fields(kind).values()
    return {value for wanted in fields if get_origin(wanted) is Literal for value in get_args(wanted)}


def _is_text(wanted: Any) -> bool:
    """Whether a value of this type is nothing but text, or a list of texts."""
    branches = set(_branches(wanted)) - {NoneType}
    return bool(branches) and all(
        branch is str
        or isinstance(branch, str)
        or (get_origin(branch) in (tuple, list) and all(map(_is_text, _items(branch))))
        for branch in branches
    )


def _branches(wanted: Any) -> Iterator[Any]:
    """What a value may be: the types of a union, the values of a literal."""
    if get_origin(wanted) in (None, tuple, list, dict, Mapping):
        yield wanted
    elif get_origin(wanted) is Literal:
        yield from get_args(wanted)
    elif get_origin(wanted) is Annotated:
        yield from _branches(get_args(wanted)[0])
    else:
        for inner in get_args(wanted):
            yield from _branches(inner)


def _items(wanted: Any) -> Iterator[Any]:
    return (inner for inner in get_args(wanted) if inner is not Ellipsis)
