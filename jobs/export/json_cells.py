"""A row's cells as JSON."""

import base64
import json
from collections.abc import Mapping
from typing import Any


def json_line(cells: Mapping[str, Any]) -> str:
    """One line of JSON; bytes are base64, and what JSON does not know is written as text. Nulls are left out."""
    given = {name: value for name, value in cells.items() if value is not None}
    return json.dumps(given, ensure_ascii=False, default=_plain)


def _plain(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
