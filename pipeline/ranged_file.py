"""A seekable file over ranged reads, so that Parquet is read in place instead of downloaded."""

import io
from typing import TYPE_CHECKING, Protocol

from pipeline.store_errors import StoreError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class RangeSource(Protocol):
    """What a ranged file needs of a store."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See ``Store.get_range``."""

    def uri_of(self, key: str) -> str:
        """See ``Store.uri_of``."""


class RangedFile(io.RawIOBase):
    """One object as a raw file: every read is one request, so wrap it in ``io.BufferedReader``.

    ``size`` is the object's size when it was opened; an object that has become shorter is an error.
    """

    def __init__(self, store: RangeSource, key: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The offset of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset; beyond the end is allowed and reads nothing."""
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        position = origins[whence] + offset
        if position < 0:
            raise ValueError(f"cannot seek to {position}, before the start of {self._store.uri_of(self._key)}")
        self._position = position
        return position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer, or what is left of the object.

        Raises:
            StoreError: The range cannot be read, or the object is shorter than it was when opened.
        """
        target = memoryview(buffer).cast("B")
        length = min(len(target), self._size - self._position)
        if length <= 0:
            return 0
        data = self._store.get_range(self._key, self._position, length)
        if len(data) != length:
            hint = f"expected {length} bytes at {self._position}, got {len(data)}: it was replaced while being read"
            raise StoreError("read", self._store.uri_of(self._key), "ObjectChanged", hint)
        target[:length] = data
        self._position += length
        return length
