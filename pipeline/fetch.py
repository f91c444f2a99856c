"""Getting the input image of a row: bytes from wherever they may come from, decoded, upright and RGB."""

import warnings

from PIL import Image

from dimoo_core.errors import ConfigError
from manifests.row import ImageSource
from pipeline.errors import StoreError
from pipeline.image_decoder import ImageDecoder
from pipeline.object_reader import ObjectReader
from pipeline.source_policy import SourcePolicy
from pipeline.uri import is_relative, redact_uri


class ImageFetcher:
    """Fetches images as a policy allows. Threads may share it."""

    def __init__(self, policy: SourcePolicy) -> None:
        self._policy = policy
        self._reader = ObjectReader()
        self._decoder = ImageDecoder(policy)

    def fetch(self, source: ImageSource, folder_uri: str, *, keeps_mode: bool = False) -> Image.Image:
        """Read and decode an input image.

        Args:
            source: Bytes, or a URI; a relative one starts at the manifest's folder.
            folder_uri: Folder of the manifest file that names it.
            keeps_mode: Whether the image stays in its own mode; otherwise it is made RGB.

        Raises:
            StoreError: The bytes cannot be had, or may not.
            ImageUnreadable: They are no image, a damaged one, or one too large.
        """
        data = source.data if source.data is not None else self._read(source, folder_uri)
        return self._decoder.decode(data, source.name, keeps_mode=keeps_mode)

    def close(self) -> None:
        """Let go of connections and processes; the fetcher may be used again."""
        self._reader.close()
        self._decoder.close()

    def _read(self, source: ImageSource, folder_uri: str) -> bytes:
        assert source.uri is not None
        uri = f"{folder_uri.rstrip('/')}/{source.uri}" if is_relative(source.uri) else source.uri
        try:
            self._policy.check(uri, folder_uri)
        except ConfigError as error:
            raise StoreError("read", redact_uri(uri), "InvalidUri", str(error)) from error
        return self._reader.read(uri, self._policy.max_bytes)


def ignore_pillow_warnings() -> None:
    """Keep what Pillow says about odd images to itself, in this process: filters are global."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
