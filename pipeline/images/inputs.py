"""The input images of rows: fetched with patience, fitted to sizes that the model takes, encoded."""

from PIL import Image
from torch import Tensor

from dimoo_core.codec.codec import ImageCodec
from dimoo_core.codec.resize import centered, crop_sizes_for, fit, random_offset, resolution_beside
from dimoo_core.errors import RequestError
from dimoo_core.request.builder import num_image_tokens
from dimoo_core.settings import MAX_POSITIONS, Resolution
from manifests.row.images import ImageSource
from manifests.row.parse import Row
from pipeline.errors import RunFailed
from pipeline.images.fetch import ImageFetcher
from pipeline.protocol.settings import RunSettings
from pipeline.storage.errors import StoreError
from pipeline.storage.retry import RetryPolicy


class InputImages:
    """Gets input images for one model's codec. Threads may share it."""

    def __init__(self, codec: ImageCodec, settings: RunSettings, retry_policy: RetryPolicy) -> None:
        self._codec = codec
        self._settings = settings
        self._retry_policy = retry_policy
        timeout_s = settings.failures.input_timeout_s
        self._fetcher = ImageFetcher(settings.sources, timeout_s=timeout_s, is_over=lambda: retry_policy.is_over)
        self._num_fetched = 0

    def close(self) -> None:
        """Let go of connections and processes."""
        self._fetcher.close()

    def asked_about(self, row: Row, seed: int, folder_uri: str) -> list[Tensor]:
        """Codes of the images that a row has a question about, in its order.

        Raises:
            RequestError: They do not fit into a sequence; what comes after the one that is too many is not fetched.
        """
        images: list[Tensor] = []
        resolution = resolution_beside(self._settings.results.understanding.resolution, len(row.inputs))
        for source in row.inputs:
            images.append(
                self.encoded(source, folder_uri, seed, resolution, self._settings.results.understanding.random_crop)
            )
            num_tokens = sum(num_image_tokens(codes_HW) for codes_HW in images)
            if num_tokens > MAX_POSITIONS:
                fix = "give fewer images, or a smaller understanding.resolution"
                raise RequestError(
                    f"{source.column} is too many: a sequence must have at most {MAX_POSITIONS} tokens, the first "
                    f"{len(images)} of {len(row.inputs)} images have {num_tokens}: {fix}"
                )
        return images

    def encoded(
        self, source: ImageSource, folder_uri: str, seed: int, resolution: Resolution, is_random: bool
    ) -> Tensor:
        """The image's codes, (rows, columns)."""
        (codes_HW,) = self._codec.encode([self.fitted(source, folder_uri, seed, resolution, is_random)])
        return codes_HW

    def fitted(
        self, source: ImageSource, folder_uri: str, seed: int, resolution: Resolution, is_random: bool
    ) -> Image.Image:
        """The image cropped to a size that the model takes: in the middle, or anywhere as the seed says."""
        image = self.fetch(source, folder_uri)
        sizes = crop_sizes_for(image.size, resolution)
        return fit(image, sizes, random_offset(seed) if is_random else centered)

    def fetch(self, source: ImageSource, folder_uri: str, *, keeps_mode: bool = False) -> Image.Image:
        """The input image, tried for with patience.

        Raises:
            StoreError: This image cannot be had, while others can, or trying again cannot help.
            RunFailed: No image can be had any more, or the run is being stopped.
            ImageUnreadable: As ``ImageFetcher.fetch``.
        """
        num_fetched_then: list[int] = []  # by other rows too, when a try of this one failed

        def attempt() -> Image.Image:
            try:
                return self._fetcher.fetch(source, folder_uri, keeps_mode=keeps_mode)
            except StoreError:
                num_fetched_then.append(self._num_fetched)
                raise

        try:
            image = self._retry_policy.retry(attempt)
        except StoreError as error:
            is_given_up = error.retryable or error.code == "InputTimeout"  # the latter when the run ends meanwhile
            is_out_of_reach = error.retryable and self._num_fetched == num_fetched_then[0]
            if is_out_of_reach or (is_given_up and self._retry_policy.is_over):
                raise RunFailed(str(error)) from error
            error.column = "" if source.column == "image" else source.column
            raise
        self._num_fetched += 1  # threads may lose counts: only a change matters
        return image
