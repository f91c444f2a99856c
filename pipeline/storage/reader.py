"""Reads single objects by URI: the images that manifest rows name."""

import threading
from io import BufferedReader

from dimoo_core.errors import ConfigError
from manifests.redact import redact_uri
from pipeline.storage.base import Store
from pipeline.storage.errors import StoreError
from pipeline.storage.uri import parse_uri, split_uri


class ObjectReader:
    """Reads objects from anywhere, with one store a bucket, so that connections are reused.

    Threads may share a reader.
    """

    def __init__(self) -> None:
        self._bucket_stores: dict[str, Store] = {}
        self._lock = threading.Lock()

    def read(self, uri: str, max_bytes: int | None = None) -> bytes:
        """The bytes at a local path, ``file://`` or ``s3://`` URI; relative paths start at the working directory.

        Raises:
            ObjectNotFound: There is no such object.
            StoreError: It cannot be read. Code ``InvalidUri`` if the URI is wrong: that is one row's fault, not the
                spec's, so it is no ``ConfigError``. Code ``TooLarge`` if it has more than ``max_bytes``.
        """
        store, key = self.locate(uri)
        return store.get(key) if max_bytes is None else store.get_at_most(key, max_bytes)

    def open(self, uri: str) -> BufferedReader:
        """The object as a seekable file, read in ranges as needed."""
        store, key = self.locate(uri)
        return store.open(key)

    def locate(self, uri: str) -> tuple[Store, str]:
        """The store and the key of an object; nothing is read yet."""
        try:
            root, key = split_uri(uri)
        except ConfigError as error:
            raise StoreError("read", redact_uri(uri), "InvalidUri", str(error)) from error
        if parse_uri(root).is_local:  # a folder costs nothing to open, and there may be millions
            return open_store(root), key
        with self._lock:
            if root not in self._bucket_stores:
                self._bucket_stores[root] = open_store(root)
            return self._bucket_stores[root], key

    def close(self) -> None:
        """Let go of all connections; the reader may be used again."""
        with self._lock:
            for store in self._bucket_stores.values():
                store.close()
            self._bucket_stores.clear()


def open_store(uri: str) -> Store:
    """The store at a local path, a ``file://`` URI or ``s3://bucket/prefix``; nothing is contacted or created yet.

    S3 endpoint, region and credentials come from the environment, profile or instance, the usual AWS way.

    Raises:
        ConfigError: The URI is of another kind, or malformed.
        StoreError: The AWS settings cannot be used, for example a profile that does not exist.
    """
    location = parse_uri(uri)
    if location.is_local:
        from pipeline.storage.local import LocalStore

        return LocalStore(location.path)
    from pipeline.storage.s3 import S3Store  # boto3 takes half a second to import

    return S3Store(location.bucket, location.path)
