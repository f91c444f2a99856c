"""Getting the input image of a row: bytes from wherever they may come from, decoded, upright and RGB."""

import warnings
from collections.abc import Callable
from functools import partial

from PIL import Image

from dimoo_core.errors import ConfigError
from manifests.row import ImageSource
from pipeline.image_decoder import ImageDecoder
from pipeline.limited_call import CallAbandoned, LimitedCalls
from pipeline.object_reader import ObjectReader
from pipeline.source_policy import SourcePolicy
from pipeline.store_errors import StoreError
from pipeline.uri import is_relative, redact_uri


class ImageFetcher:
    """Fetches images as a policy allows. Threads may share it.

    Args:
        policy: Which ones, and how large.
        timeout_s: How long the bytes may take to come, beyond what stores bound by themselves; None: for ever.
        is_over: Whether nobody waits for images any more.
    """

    def __init__(
        self, policy: SourcePolicy, *, timeout_s: float | None = None, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self._policy = policy
        self._timeout_s = timeout_s
        self._calls: LimitedCalls[bytes] = LimitedCalls(is_over)
        self._reader = ObjectReader()
        self._decoder = ImageDecoder(policy)

    def fetch(self, source: ImageSource, folder_uri: str, *, keeps_mode: bool = False) -> Image.Image:
        """Read and decode an input image.

        Args:
            source: Bytes, or a URI; a relative one starts at the manifest's folder.
            folder_uri: Folder of the manifest file that names it.
            keeps_mode: Whether the image stays in its own mode; otherwise it is made RGB.

        Raises:
            StoreError: The bytes cannot be had, or may not. Code ``InputTimeout`` if they did not come in time.
            ImageUnreadable: They are no image, a damaged one, or one too large.
        """
        data = source.data if source.data is not None else self._read(source, folder_uri)
        return self._decoder.decode(data, source.name, keeps_mode=keeps_mode)

    def close(self) -> None:
        """Let go of connections and processes; the fetcher may be used again."""
        self._calls.close()
        self._reader.close()
        self._decoder.close()

    def _read(self, source: ImageSource, folder_uri: str) -> bytes:
        assert source.uri is not None
        uri = f"{folder_uri.rstrip('/')}/{source.uri}" if is_relative(source.uri) else source.uri
        try:
            self._policy.check(uri, folder_uri)
        except ConfigError as error:
            raise StoreError("read", redact_uri(uri), "InvalidUri", str(error)) from error
        if self._timeout_s is None:
            return self._reader.read(uri, self._policy.max_bytes)
        try:
            return self._calls.run(partial(self._reader.read, uri, self._policy.max_bytes), self._timeout_s)
        except CallAbandoned as error:
            hint = f"it did not come within failures.input_timeout_s, {self._timeout_s:g} s"
            raise StoreError("read", redact_uri(uri), "InputTimeout", hint) from error


def ignore_pillow_warnings() -> None:
    """Keep what Pillow says about odd images to itself, in this process: filters are global."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
