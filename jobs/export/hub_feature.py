"""Arrow types in the words of Hugging Face ``datasets``, which keeps them in a table's metadata."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from dimoo_core.errors import ConfigError

_PLAIN = frozenset(
    {"null", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "string",
     "large_string", "binary", "large_binary", "date32"}
)  # fmt: skip
_IMAGES: Mapping[str, dict[str, Any]] = {
    "image": {"_type": "Image"},
    "source_image": {"_type": "Image"},
    "source_images": {"feature": {"_type": "Image"}, "_type": "List"},
}
_RENAMED = {"halffloat": "float16", "float": "float32", "double": "float64", "date32[day]": "date32"}


def hub_features(schema: pa.Schema) -> dict[str, Any]:
    """The features of a table, in which ``image``, ``source_image`` and those in ``source_images`` are images.

    Raises:
        ConfigError: A column's type has no name there.
    """
    return {field.name: _IMAGES.get(field.name) or _feature(field.name, field.type) for field in schema}


def _feature(column: str, dtype: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        kind = "List" if pa.types.is_list(dtype) else "LargeList"
        return {"feature": _feature(column, dtype.value_type), "_type": kind}
    if pa.types.is_struct(dtype):
        return {field.name: _feature(column, field.type) for field in dtype}
    name = _RENAMED.get(str(dtype), str(dtype))
    if name in _PLAIN or name.startswith(("float", "timestamp[")):
        return {"dtype": name, "_type": "Value"}
    raise ConfigError(f"column {column!r} has type {dtype}, which Hugging Face has no name for: --drop {column}")
