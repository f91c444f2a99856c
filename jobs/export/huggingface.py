"""What the Hugging Face hub and ``datasets`` read beside an exported table: its card and its features."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from dimoo_core.errors import ConfigError
from jobs.report.card import card_text, table_lines
from jobs.report.facts import RunFactSheet
from jobs.text import pluralize

_PLAIN = re.compile(
    r"null|bool|u?int\d+|float\d+|(large_)?(string|binary)|date(32|64)|(timestamp|time32|time64|duration)\[.*"
    r"|decimal(128|256)\(.*"
)
_IMAGES: Mapping[str, dict[str, Any]] = {
    "image": {"_type": "Image"},
    "source_image": {"_type": "Image"},
    "source_images": {"feature": {"_type": "Image"}, "_type": "List"},
}
_RENAMED = {
    "halffloat": "float16", "float": "float32", "double": "float64", "date32[day]": "date32", "date64[ms]": "date64",
}  # fmt: skip


def hub_features(schema: pa.Schema) -> dict[str, Any]:
    """The features of a table, in which ``image``, ``source_image`` and those in ``source_images`` are images.

    Written by hand, though ``datasets.Features`` knows them: that package is no dependency of this one, and takes
    seconds to import. A test holds the two against each other.
    """
    return {field.name: _IMAGES.get(field.name) or _feature(field.name, field.type) for field in schema}


def _feature(column: str, dtype: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        kind = "List" if pa.types.is_list(dtype) else "LargeList"
        return {"feature": _feature(column, dtype.value_type), "_type": kind}
    if pa.types.is_fixed_size_list(dtype):
        return {"feature": _feature(column, dtype.value_type), "length": dtype.list_size, "_type": "List"}
    if pa.types.is_struct(dtype):
        return {field.name: _feature(column, field.type) for field in dtype}
    name = _RENAMED.get(str(dtype), str(dtype))
    if _PLAIN.fullmatch(name):
        return {"dtype": name, "_type": "Value"}
    raise ConfigError(f"column {column!r} has type {dtype}, which Hugging Face has no name for: --drop {column}")


def hub_card(facts: RunFactSheet, num_rows: Mapping[str, int], digest: str, *, has_inputs: bool) -> str:
    """The card.

    Args:
        digest: Of the data files. ``datasets`` caches a local folder by its name and its configuration alone; with the
            digest in the latter it does not take one export for another of the same name.
        has_inputs: Whether images that the model was given are among the data.
    """
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in sorted(num_rows)]
    config = {"config_name": "default", "description": f"content {digest}", "data_files": files}
    return card_text(facts, _lines(facts, num_rows, has_inputs), has_inputs=has_inputs, configs=[config])


def _lines(facts: RunFactSheet, num_rows: Mapping[str, int], has_inputs: bool) -> Iterator[str]:
    yield (
        f"{pluralize(sum(num_rows.values()), 'row')} made by the model `{facts.model}` with dimoo-batch. The "
        "results are synthetic and have not been reviewed by people."
    )
    if has_inputs:
        yield "\nThe input images are included: they are not synthetic and keep their own terms."
    yield from table_lines("Splits", ("split", "rows"), [(name, f"{rows:,}") for name, rows in num_rows.items()])
