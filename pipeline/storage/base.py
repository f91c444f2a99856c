"""The contract of a store: bytes by key under one root, and files of it read in place by ranged reads.

The two kinds are in ``local`` and ``s3``; both pass the same contract tests.
"""

import io
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.storage.errors import AccessDenied, ObjectNotFound, StoreError

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


PROBE_PREFIX = "_probe/"
"""Where ``check_writable`` tries things out; no reader looks there."""

TEMP_PREFIX = ".tmp-"
"""How names of half-written local files begin; no key may use it, no listing shows it."""

_OPEN_BUFFER_BYTES = 1 << 20
_MAX_CREATE_ATTEMPTS = 3
_KEY_RULE = (
    "a key is a relative path without empty, '.' or '..' parts, backslashes and control characters, "
    f"and no part begins with {TEMP_PREFIX!r}"
)


def json_bytes(value: object, **style: Any) -> bytes:
    """A JSON document as stores hold it; ``style`` is for ``json.dumps``."""
    return (json.dumps(value, **style) + "\n").encode()


class Store(ABC):
    """Bytes by key under one root.

    Threads may share a store. Processes do not: each calls ``open_store`` with the root's ``uri``.

    Keys that are written or deleted are relative POSIX paths (see ``_KEY_RULE``), and no key may be a folder of
    another: a disk cannot hold both ``a`` and ``a/b``. Reading is more lenient, since objects that others made may
    have any name, but never leaves the root.

    Any method raises ``StoreError`` or a subclass of it, after retries of its own where those can help:
    ``AccessDenied``, ``BucketNotFound``, code ``InvalidKey``; ``retryable`` is set when the store was unreachable,
    throttled or broke off. A write that raised may still have happened; repeating it is always safe.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        """The root, without a slash at the end (unless it is ``/``)."""
        self._base = uri if uri.endswith("/") else uri + "/"

    def uri_of(self, key: str) -> str:
        """The full URI or path of a key."""
        return self._base + key

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectNotFound: There is none.
        """

    def get_at_most(self, key: str, max_bytes: int) -> bytes:
        """The whole object, unless it is larger than ``max_bytes``: of that no byte is held in memory.

        Raises:
            ObjectNotFound: There is none.
            StoreError: Code ``TooLarge``.
        """
        size = self.size(key)
        if size is not None:
            self._check_size(key, size, max_bytes)
        return self.get(key)

    @abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from offset ``start``; fewer, or none, where the object ends before.

        Raises:
            ObjectNotFound: There is none; not noticed when ``length`` is 0.
        """

    @abstractmethod
    def put(self, key: str, data: bytes, *, content_type: str | None = None) -> None:
        """Write or overwrite an object at once: readers see the old bytes or the new, never a part.

        When this returns, the bytes survive a crash of the machine. ``content_type`` is for browsers; local disks
        ignore it.
        """

    def put_json(self, key: str, value: object, **style: Any) -> None:
        """As ``put``, a value as one JSON document; ``style`` is for ``json.dumps``."""
        self.put(key, json_bytes(value, **style), content_type="application/json")

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create an object unless the key is taken; of any number of concurrent callers exactly one wins.

        A refusal may mean that an earlier try of our own went through and only its answer was lost. So the stored
        bytes are compared: equal bytes count as ours. Callers that race put a unique writer id into ``data``.

        Returns:
            True if the key holds ``data`` now. False if it holds something else, which stays as it is.
        """
        for _ in range(_MAX_CREATE_ATTEMPTS):
            if self._create(key, data):
                return True
            with suppress(ObjectNotFound):  # deleted since the refusal: the key is free again
                return self.get(key) == data
        hint = "refused as existing, yet it cannot be read: something deletes it all the time"
        raise StoreError("create", self.uri_of(key), "ObjectFlickers", hint, True)

    @abstractmethod
    def _create(self, key: str, data: bytes) -> bool:
        """Put the object only if the key is free, in one atomic operation; whether that was so."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """The object's size in bytes; None if there is no such object."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that begin with ``prefix`` (any string, not only a folder), relative to the root, in no order.

        Lazy: a page at a time. A root that does not exist on disk is empty; a missing bucket is an error.
        """

    def list_with_sizes(self, prefix: str = "") -> Iterator[tuple[str, int | None]]:
        """As ``list``, each key with the object's size in bytes; None if it is gone by now."""
        for key in self.list(prefix):
            yield key, self.size(key)

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""

    def open(self, key: str) -> io.BufferedReader:
        """The object as a seekable file, read in ranges of about a megabyte as needed.

        Reading raises ``StoreError`` as ``get`` does. Fit for ``pyarrow.parquet``; not for several threads at once.
        """
        size = self.size(key)
        if size is None:
            raise ObjectNotFound("read", self.uri_of(key), "NoSuchKey", "the object does not exist")
        return io.BufferedReader(RangedFile(self, key, size), _OPEN_BUFFER_BYTES)

    def give_up_unfinished(self) -> int:
        """Throw away what killed processes left half-written where no listing shows it; how many objects.

        To be called by who alone works at this root: what others are just writing is thrown away too, and they fail.
        """
        return 0

    def close(self) -> None:  # noqa: B027 (most stores hold nothing)
        """Let go of connections; the store is not used again."""

    def check_writable(self) -> None:
        """Make sure that a run can be kept here: write, write conditionally, read, overwrite, list, delete.

        Works on one probe object of its own and deletes it again. Credentials that may do all but delete are
        accepted, as buckets that keep everything are legitimate; the probe then stays behind.

        Raises:
            StoreError: Something is not allowed or not supported; the message names it.
        """
        key = PROBE_PREFIX + uuid.uuid4().hex
        if not self.put_if_absent(key, b"first"):
            raise self._unsupported(key, "ConditionalWriteRefused", "a new key was refused as existing")
        try:
            self._check_probe(key)
        finally:
            with suppress(AccessDenied):
                self.delete(key)

    def _check_probe(self, key: str) -> None:
        if self.put_if_absent(key, b"second") or self.get(key) != b"first":
            hint = "the store ignores If-None-Match: *, so two workers could commit the same rows; use another one"
            raise self._unsupported(key, "ConditionalWriteIgnored", hint)
        self.put(key, b"second")
        if self.get(key) != b"second":
            raise self._unsupported(key, "StaleRead", "an overwritten object was read with its old bytes")
        if key not in self.list(key):
            raise self._unsupported(key, "StaleListing", "an object just written is missing from the listing")

    def _check_size(self, key: str, size: int, max_bytes: int) -> None:
        if size > max_bytes:
            hint = f"it has {size} bytes, allowed are {max_bytes}"
            raise StoreError("read", self.uri_of(key), "TooLarge", hint)

    def _unsupported(self, key: str, code: str, hint: str) -> StoreError:
        return StoreError("keep a run at", self.uri_of(key), code, hint)

    def _check_key(self, action: str, key: str, *, is_new: bool = False) -> None:
        """Refuse keys that leave the root and, if ``is_new``, those that not every store can hold."""
        parts = key.split("/")
        is_valid = key != "" and _is_utf8(key) and "\0" not in key and not any(part in (".", "..") for part in parts)
        if is_new and is_valid:
            is_valid = "\\" not in key and not any(ord(char) < 32 or ord(char) == 127 for char in key)
            is_valid &= all(part and not part.startswith(TEMP_PREFIX) for part in parts)
        if not is_valid:
            raise StoreError(action, self.uri_of(key), "InvalidKey", _KEY_RULE)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8
        return False
    return True
