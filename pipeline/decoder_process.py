"""The program of a decoder: a process that opens image files which nobody has to trust.

``python -m dimoo_batch._decoder MAX_PIXELS TIMEOUT_S MEMORY_BYTES`` reads requests from standard input and answers
on standard output, one at a time; it ends with its input. A file that takes too long or too much memory, or that
crashes the libraries that decode it, ends or fails this process and nothing else. It is given no credentials.

Request: the length of the file (8 bytes), whether its mode is kept (1 byte), the file. Answer: a line of JSON, either
with ``error`` and ``message`` or with the size in pixels; upon one more byte of input a second line with mode and
size, then the pixels, or again an error. Of an image of at most ``FREE_PIXELS`` the second line comes at once.
"""

import io
import json
import resource
import signal
import struct
import sys
import warnings
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from pipeline.image_format import known_formats
from pipeline.upright_image import PixelsUnclear, upright, upright_rgb

REQUEST = struct.Struct("<Q?")
GO = b"g"
FREE_PIXELS = 2**20
"""An image of so many is decoded without leave: threads hold a few of them at a time, whatever the limit is."""


def main(max_pixels: int, timeout_s: float, memory_bytes: int) -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for those that use this process; they end it
    _limit_memory(memory_bytes)
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # checked here, against the job's own limit
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        num_bytes, keeps_mode = REQUEST.unpack(head)
        serve(requests.read(num_bytes), keeps_mode, max_pixels, timeout_s, requests, answers)


def serve(
    data: bytes, keeps_mode: bool, max_pixels: int, timeout_s: float, requests: BinaryIO, answers: BinaryIO
) -> None:
    """Answer one request. The alarm is left at its default, which ends the process whatever code it is in."""
    try:
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        with Image.open(io.BytesIO(data), formats=known_formats()) as image:
            if image.width * image.height > max_pixels:
                signal.setitimer(signal.ITIMER_REAL, 0)
                _tell(answers, error="too_large", message=f"{image.width}x{image.height}")
                return
            if image.width * image.height > FREE_PIXELS:
                signal.setitimer(signal.ITIMER_REAL, 0)
                _tell(answers, width=image.width, height=image.height)
                if requests.read(len(GO)) != GO:
                    return
                signal.setitimer(signal.ITIMER_REAL, timeout_s)
            decoded = upright(image) if keeps_mode else upright_rgb(image)
            pixels = decoded.tobytes()
    except MemoryError:
        _tell(answers, error="memory", message="")
        return
    except PixelsUnclear as error:
        _tell(answers, error="unclear", message=str(error))
        return
    except UnidentifiedImageError:
        _tell(answers, error="unknown", message="")
        return
    except Exception as error:  # wrong bytes make Pillow's decoders raise nearly anything
        _tell(answers, error="damaged", message=" ".join(str(error).split()))
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _tell(answers, mode=decoded.mode, width=decoded.width, height=decoded.height, num_bytes=len(pixels))
    answers.write(pixels)
    answers.flush()


def _tell(answers: BinaryIO, **answer: Any) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _limit_memory(num_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
