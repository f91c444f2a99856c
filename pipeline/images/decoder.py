"""Image files decoded in processes of their own, so that what a hostile file does is done to one row only.

The processes are started when they are needed, kept, and hold no credentials. How many pixels they decode at the same
time is bounded, so that many large images wait for each other instead of filling the memory.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from PIL import Image

from dimoo_batch._finder import HOME
from dimoo_core.errors import DimooError
from pipeline.images.decoder_process import GO, REQUEST, Wanted, words_of_unknown
from pipeline.protocol.source_policy import SourcePolicy

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "SYSTEMROOT")
_MAX_TRIES = 2  # a process may also end for reasons that are not the file's: the system may lack memory
_END_TIMEOUT_S = 2.0
_PIPE_BYTES = 2**20
_BLOCK_BYTES = 64 * 2**20
"""Of Pillow's memory for a large image. Smaller ones are from the heap of the thread, which keeps what is freed.

``PILLOW_BLOCK_SIZE``, the variable that Pillow documents for it, is read when Pillow is imported: too early for us.
"""


class ImageUnreadable(DimooError):
    """The bytes of an input image are no image that can be decoded."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Of a file: its format as Pillow names it, and its upright size in pixels."""

    format: str
    width: int
    height: int


class ImageDecoder:
    """Decodes files within the limits of a policy. Threads may share it; each has a process while it decodes."""

    def __init__(self, policy: SourcePolicy) -> None:
        Image.core.set_block_size(_BLOCK_BYTES)  # type: ignore[attr-defined]
        self._policy = policy
        self._idle: list[_DecoderProcess] = []
        self._lock = threading.Lock()
        self._budget = _PixelBudget(policy.max_pixels)

    def decode(self, data: bytes, name: str, *, keeps_mode: bool = False, held: ExitStack | None = None) -> Image.Image:
        """The image, upright.

        Args:
            keeps_mode: Whether the image stays in its own mode; otherwise it is made RGB.
            held: For so long the image's pixels count among those of ``sources.max_pixels``; None: while it is decoded.

        Raises:
            ImageUnreadable: It is no image, a damaged one, or too large or expensive to decode.
        """
        image, _ = self._asked(data, name, Wanted.OWN_MODE if keeps_mode else Wanted.RGB, held)
        assert image is not None  # that is what was asked for
        return image

    def header(self, data: bytes, name: str) -> ImageHeader:
        """Format and size in a file, or in enough of its beginning; no pixel is decoded.

        Raises:
            ImageUnreadable: As ``decode``, but for damage behind the header.
        """
        _, answer = self._asked(data, name, Wanted.HEADER, None)
        return ImageHeader(answer["format"], answer["width"], answer["height"])

    def _asked(
        self, data: bytes, name: str, wanted: Wanted, held: ExitStack | None
    ) -> tuple[Image.Image | None, dict[str, Any]]:
        if len(data) > self._policy.max_bytes:
            limit = f"sources.max_bytes allows {self._policy.max_bytes}"
            raise ImageUnreadable(f"{name} has {len(data)} bytes, {limit}: make the file smaller or raise the limit")
        for _ in range(_MAX_TRIES):
            process = self._take()
            try:
                image, answer = self._exchange(process, data, wanted, held)
            except (OSError, EOFError, ValueError):
                number = process.end()
                if number == signal.SIGALRM:
                    raise ImageUnreadable(self._too_slow(name)) from None
                continue
            except BaseException:
                process.end()
                raise
            self._give_back(process, is_spent=answer.get("error") == "memory")
            if "error" in answer:
                raise ImageUnreadable(self._words(answer, name, data))
            return image, answer
        raise ImageUnreadable(f"{name} ends the process that decodes it ({_ended(number)}): it is damaged or hostile")

    def close(self) -> None:
        """End the processes; the decoder may be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def _exchange(
        self, process: "_DecoderProcess", data: bytes, wanted: Wanted, held: ExitStack | None
    ) -> tuple[Image.Image | None, dict[str, Any]]:
        """One request; the image if there is one, and the last answer."""
        answer = process.ask(REQUEST.pack(len(data), wanted), data)
        if "error" in answer or wanted is Wanted.HEADER:
            return None, answer
        if "num_bytes" in answer:
            return process.image(answer), answer
        with ExitStack() as own:
            own.enter_context(self._budget.taken(answer["width"] * answer["height"]))
            answer = process.ask(GO)
            if "error" in answer:
                return None, answer
            image = process.image(answer)
            if held is not None:
                held.push(own.pop_all())
            return image, answer

    def _take(self) -> "_DecoderProcess":
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _DecoderProcess(self._policy)

    def _give_back(self, process: "_DecoderProcess", *, is_spent: bool) -> None:
        if is_spent:
            process.end()
            return
        with self._lock:
            self._idle.append(process)

    def _words(self, answer: dict[str, Any], name: str, data: bytes) -> str:
        match answer["error"]:
            case "too_large":
                limit = f"more than the {self._policy.max_pixels} pixels that sources.max_pixels allows"
                return f"{name} has {answer['message']} pixels, {limit}: make the image smaller or raise the limit"
            case "memory":
                limit = f"sources.decode_memory_bytes allows {self._policy.decode_memory_bytes}"
                return f"{name} needs too much memory to decode, {limit}: save it again or raise the limit"
            case "unknown":
                return f"{name} {words_of_unknown(data)}"
            case "unclear":
                return f"{name} {answer['message']}"
            case _:
                return f"{name} is damaged: {answer['message']}"

    def _too_slow(self, name: str) -> str:
        limit = f"sources.decode_timeout_s allows {self._policy.decode_timeout_s:g} s"
        return f"{name} takes too long to decode, {limit}: save it again or raise the limit"


class _DecoderProcess:
    """One process and its pipes."""

    def __init__(self, policy: SourcePolicy) -> None:
        limits = (policy.max_pixels, policy.decode_timeout_s, policy.decode_memory_bytes)
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dimoo_batch._decoder", *map(str, limits)],
            env=kept | {"PYTHONPATH": os.pathsep.join([str(HOME), *filter(None, sys.path)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=_PIPE_BYTES,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: Any = self._process.stdout

    def ask(self, *parts: bytes) -> dict[str, Any]:
        """The next line of the answer."""
        for part in parts:
            self._requests.write(part)
        self._requests.flush()
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def image(self, answer: dict[str, Any]) -> Image.Image:
        """The pixels that follow an answer."""
        data = memoryview(bytearray(answer["num_bytes"]))
        place = 0
        while place < len(data):
            if not (num_read := self._answers.readinto(data[place:])):  # as ``read``, which takes twice the memory
                raise EOFError
            place += num_read
        return Image.frombytes(answer["mode"], (answer["width"], answer["height"]), data)

    def end(self) -> int:
        """Make sure that it ends; the number of the signal that ended it, 0 if it was none."""
        with suppress(OSError):  # what was not written yet cannot be any more
            self._requests.close()
        self._answers.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return max(0, -self._process.returncode)


class _PixelBudget:
    """Lets work continue side by side as long as it is not too much together; what is too much alone goes alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Wait until there is room, and take it for the time of the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + amount <= self._most)
            self._taken += amount
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()


def _ended(number: int) -> str:
    return signal.Signals(number).name if number else "it exits"
