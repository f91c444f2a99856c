"""The input images of a row: fetched from wherever they may be, decoded, upright and RGB, then cropped and encoded.

A call that hangs is given up after its timeout; it stays behind on a thread of its own, and nobody waits for it.
"""

import os
import queue
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Generic, TypeVar

from PIL import Image
from torch import Tensor

from dimoo_core.codec.codec import ImageCodec
from dimoo_core.codec.resize import centered, crop_sizes_for, fit, random_offset, resolution_beside
from dimoo_core.errors import ConfigError, RequestError
from dimoo_core.request.builder import num_image_tokens
from dimoo_core.settings import MAX_POSITIONS, Resolution
from manifests.redact import redact_uri
from manifests.row.images import ImageSource
from manifests.row.parse import Row
from pipeline.errors import RunFailed
from pipeline.images.decoder import ImageDecoder, ImageHeader, ImageUnreadable
from pipeline.protocol.settings import RunSettings
from pipeline.protocol.source_policy import SourcePolicy
from pipeline.storage.errors import StoreError
from pipeline.storage.reader import ObjectReader
from pipeline.storage.retry import RetryPolicy
from pipeline.storage.uri import resolve_uri

Result = TypeVar("Result")

_LOOK_INTERVAL_S = 0.2
_HEADER_BYTES = 256 * 1024  # of a file, in which most have their header


class CallAbandoned(Exception):
    """A call took longer than it may, or nobody wants its result any more."""


class TimedCalls(Generic[Result]):
    """Runs calls on threads that are used again when they come back. Threads may share it.

    The threads are daemons: one that hangs keeps no process alive.
    """

    def __init__(self, is_over: Callable[[], bool] = lambda: False) -> None:
        self._is_over = is_over
        self._idle: list[_Caller[Result]] = []

    def run(self, work: Callable[[], Result], timeout_s: float) -> Result:
        """What ``work`` returns or raises.

        Raises:
            CallAbandoned: There is nothing after ``timeout_s``.
        """
        try:
            caller = self._idle.pop()
        except IndexError:
            caller = _Caller(self._idle)
        answers: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        caller.calls.put((work, answers))
        answer = self._wait_for(answers, time.monotonic() + timeout_s)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End the threads that wait for work; more may be asked for later."""
        while self._idle:
            self._idle.pop().calls.put(None)

    def _wait_for(
        self, answers: "queue.SimpleQueue[Result | BaseException]", deadline_s: float
    ) -> Result | BaseException:
        while True:
            left_s = deadline_s - time.monotonic()
            try:
                return answers.get(timeout=max(0.0, min(_LOOK_INTERVAL_S, left_s)))
            except queue.Empty:
                if left_s <= 0 or self._is_over():
                    raise CallAbandoned from None


class _Caller(Generic[Result]):
    """One thread; it is idle again when its call has come back, however late."""

    def __init__(self, idle: "list[_Caller[Result]]") -> None:
        self.calls: queue.SimpleQueue[tuple[Callable[[], Result], queue.SimpleQueue[Result | BaseException]] | None] = (
            queue.SimpleQueue()
        )
        self._idle = idle
        threading.Thread(target=self._live, name="limited call", daemon=True).start()

    def _live(self) -> None:
        while (call := self.calls.get()) is not None:
            work, answers = call
            try:
                answer: Result | BaseException = work()
            except BaseException as error:  # handed over to the thread that waits
                answer = error
            self._idle.append(self)
            answers.put(answer)
            del call, work, answers, answer  # what was read is not kept while there is nothing to do


class ImageFetcher:
    """Fetches images as a policy allows. Threads may share it.

    Args:
        timeout_s: How long the bytes may take to come, beyond what stores bound by themselves; None: for ever.
        is_over: Whether nobody waits for images any more.
    """

    def __init__(
        self, policy: SourcePolicy, *, timeout_s: float | None = None, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self._policy = policy
        self._timeout_s = timeout_s
        self._calls: TimedCalls[bytes] = TimedCalls(is_over)
        self._reader = ObjectReader()
        self._decoder = ImageDecoder(policy)

    def fetch(
        self, source: ImageSource, folder_uri: str, *, keeps_mode: bool = False, held: ExitStack | None = None
    ) -> Image.Image:
        """Read and decode an input image.

        Args:
            source: Bytes, or a URI; a relative one starts at the manifest's folder.
            folder_uri: Folder of the manifest file that names it.
            keeps_mode: Whether the image stays in its own mode; otherwise it is made RGB.

        Raises:
            StoreError: The bytes cannot be had, or may not. Code ``InputTimeout`` if they did not come in time.
            ImageUnreadable: They are no image, a damaged one, or one too large.
        """
        data = self.read(source, folder_uri)
        return self._decoder.decode(data, source.name, keeps_mode=keeps_mode, held=held)

    def header(self, source: ImageSource, folder_uri: str) -> ImageHeader:
        """Format and upright size of an input image, from the beginning of its file where that is enough.

        Raises:
            StoreError, ImageUnreadable: As ``fetch``, but for damage behind the header.
        """
        data = source.data if source.data is not None else self._beginning(source, folder_uri)
        try:
            return self._decoder.header(data, source.name)
        except ImageUnreadable:
            if source.data is not None or len(data) < _HEADER_BYTES:
                raise
        return self._decoder.header(self.read(source, folder_uri), source.name)

    def close(self) -> None:
        """Let go of connections and processes; the fetcher may be used again."""
        self._calls.close()
        self._reader.close()
        self._decoder.close()

    def read(self, source: ImageSource, folder_uri: str) -> bytes:
        """The bytes of an input image, if the policy allows it.

        Raises:
            StoreError: As ``fetch``.
        """
        if source.data is not None:
            return source.data
        uri = self._allowed(source, folder_uri)
        if self._timeout_s is None:
            return self._reader.read(uri, self._policy.max_bytes)
        try:
            return self._calls.run(partial(self._reader.read, uri, self._policy.max_bytes), self._timeout_s)
        except CallAbandoned as error:
            hint = f"it did not come within failures.input_timeout_s, {self._timeout_s:g} s"
            raise StoreError("read", redact_uri(uri), "InputTimeout", hint) from error

    def _beginning(self, source: ImageSource, folder_uri: str) -> bytes:
        uri = self._allowed(source, folder_uri)
        with self._reader.open(uri) as file:
            if file.seek(0, os.SEEK_END) > self._policy.max_bytes:
                return self._reader.read(uri, self._policy.max_bytes)  # is refused as in a run
            file.seek(0)
            return file.read(_HEADER_BYTES)

    def _allowed(self, source: ImageSource, folder_uri: str) -> str:
        assert source.uri is not None  # a source has either
        uri = resolve_uri(folder_uri, source.uri)
        try:
            self._policy.check(uri, folder_uri)
        except ConfigError as error:
            raise StoreError("read", redact_uri(uri), "InvalidUri", str(error)) from error
        return uri


def ignore_pillow_warnings() -> None:
    """Silence Pillow's warnings about odd images in this process: filters are global."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


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
        """The image cropped to a size that the model takes: in the middle, or at a place drawn from the seed."""
        with ExitStack() as held:
            image = self.fetch(source, folder_uri, held=held)
            sizes = crop_sizes_for(image.size, resolution)
            return fit(image, sizes, random_offset(seed) if is_random else centered)

    def fetch(
        self, source: ImageSource, folder_uri: str, *, keeps_mode: bool = False, held: ExitStack | None = None
    ) -> Image.Image:
        """The input image, fetched with retries.

        Raises:
            StoreError: This image cannot be had, while others can, or trying again cannot help.
            RunFailed: No image can be had any more, or the run is being stopped.
        """
        num_fetched_then: list[int] = []  # by other rows too, when a try of this one failed

        def attempt() -> Image.Image:
            try:
                return self._fetcher.fetch(source, folder_uri, keeps_mode=keeps_mode, held=held)
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
