"""The default id of a row: a hash of the row's content, not of how the file stores it."""

import hashlib
import math
import struct
from collections.abc import Mapping

from manifests.cells import UndecodableText
from manifests.columns import COLUMNS, IMAGE, IMAGES

HASHED_COLUMNS = tuple(sorted(name for name in COLUMNS if name != "id"))


def content_id(record: Mapping[str, object]) -> str:
    """32 hexadecimal digits that depend on the known columns of the row, except ``id``.

    Equal rows have equal ids: neither the order of the columns, nor an absent column against a null,
    nor the width of a number, nor bytes against a struct with the same bytes makes a difference.
    Columns that pass through do not count. Wrong values are hashed too, so that failed rows have ids.
    """
    digest = hashlib.blake2b(digest_size=16, person=b"manifest row 1")
    for name in HASHED_COLUMNS:
        value = record.get(name)
        if COLUMNS[name].kind is IMAGE:
            value = _image(value)
        elif COLUMNS[name].kind is IMAGES and isinstance(value, list):
            value = [_image(each) for each in value]
        if value is not None:
            tag, payload = _encoded(value)
            for part in (name.encode(), tag, payload):
                digest.update(struct.pack("<Q", len(part)))
                digest.update(part)
    return digest.hexdigest()


def _image(value: object) -> object:
    """What counts of an image's cell: a struct's bytes, else its path."""
    if not isinstance(value, Mapping):
        return value
    return value.get("path") if value.get("bytes") is None else value["bytes"]


def _encoded(value: object) -> tuple[bytes, bytes]:
    """A type tag and bytes that differ for values that differ."""
    if isinstance(value, str):
        return b"text", value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return b"bytes", hashlib.blake2b(value).digest()
    if isinstance(value, UndecodableText):
        return b"undecodable", value.data
    if isinstance(value, bool):
        return b"bool", str(value).encode()
    if isinstance(value, int):
        return b"number", str(value).encode()
    if isinstance(value, float) and math.isfinite(value):
        return b"number", str(int(value) if value.is_integer() else value).encode()
    if isinstance(value, list):
        return b"list", b"".join(struct.pack("<Q", len(part)) + part for item in value for part in _encoded(item))
    return b"other", repr(value).encode("utf-8", "backslashreplace")
