import signal
import struct
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from PIL import Image

from dimoo_core.errors import ConfigError
from pipeline.images import decoder as image_decoder
from pipeline.images.decoder import ImageDecoder, ImageUnreadable
from pipeline.protocol.source_policy import SourcePolicy
from tests.support.hostile_image import jpeg_of_scans, png_bomb, png_that_claims
from tests.support.manifest_rows import encoded, picture

GOOD = encoded(picture(0))


@pytest.fixture
def decoder(request: pytest.FixtureRequest) -> Iterator[ImageDecoder]:
    """One with the limits that the test asks for."""
    each = ImageDecoder(SourcePolicy(**getattr(request, "param", {})))
    yield each
    each.close()


def refusal(decoder: ImageDecoder, data: bytes) -> str:
    with pytest.raises(ImageUnreadable) as caught:
        decoder.decode(data, "photo.png")
    assert str(caught.value).startswith("photo.png ")
    return str(caught.value)


@pytest.mark.parametrize("decoder", [{"max_pixels": 10_000}], indirect=True)
def test_too_many_pixels_are_refused_by_the_header_alone(decoder: ImageDecoder) -> None:
    for data in (encoded(picture(0, (101, 100))), png_bomb(20_000, 20_000), png_that_claims(2**31 - 1, 2**31 - 1)):
        assert "more than the 10000 pixels that sources.max_pixels allows" in refusal(decoder, data)
    assert decoder.decode(encoded(picture(0, (100, 100))), "photo.png").size == (100, 100)


@pytest.mark.parametrize("decoder", [{"max_bytes": 1000}], indirect=True)
def test_too_many_bytes_are_refused_unread(decoder: ImageDecoder) -> None:
    assert "has 1001 bytes, sources.max_bytes allows 1000" in refusal(decoder, bytes(1001))


@pytest.mark.parametrize("decoder", [{"decode_timeout_s": 3.0}], indirect=True)
def test_an_image_that_takes_too_long_is_given_up_and_the_next_one_is_not_affected(decoder: ImageDecoder) -> None:
    message = refusal(decoder, jpeg_of_scans(100_000))
    assert "takes too long to decode, sources.decode_timeout_s allows 3 s" in message
    assert decoder.decode(GOOD, "good").tobytes() == picture(0).tobytes()


@pytest.mark.parametrize("decoder", [{"decode_memory_bytes": 2**28}], indirect=True)
def test_an_image_that_needs_too_much_memory_is_given_up_and_the_next_one_is_not_affected(
    decoder: ImageDecoder,
) -> None:
    assert "needs too much memory to decode" in refusal(decoder, png_bomb(12_000, 12_000))
    assert decoder.decode(GOOD, "good").tobytes() == picture(0).tobytes()


def test_a_file_that_crashes_its_decoder_costs_itself_only(
    decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is known that does, so the process is ended from outside while it has the file."""
    ask = image_decoder._DecoderProcess.ask

    def ask_and_crash(process: Any, *parts: bytes) -> Any:
        if parts[-1] == b"crash":
            process._process.send_signal(signal.SIGSEGV)
        return ask(process, *parts)

    monkeypatch.setattr(image_decoder._DecoderProcess, "ask", ask_and_crash)
    message = refusal(decoder, b"crash")
    assert "ends the process that decodes it (SIGSEGV)" in message
    assert decoder.decode(GOOD, "good").size == (72, 48)


def test_a_decoder_that_has_ended_meanwhile_is_replaced(decoder: ImageDecoder) -> None:
    decoder.decode(GOOD, "good")
    decoder._idle[0]._process.kill()
    assert decoder.decode(GOOD, "good").size == (72, 48)


def test_decoders_know_no_credentials(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    decoder.decode(GOOD, "good")
    environment = psutil.Process(decoder._idle[0]._process.pid).environ()
    assert "planted-secret" not in environment.values()
    assert not [name for name in environment if name.startswith(("AWS", "HF", "RAY"))]


def test_threads_have_decoders_of_their_own_and_none_is_left_in_the_end(decoder: ImageDecoder) -> None:
    gate = threading.Barrier(4)

    def decode(_: int) -> bytes:
        gate.wait(timeout=30)
        return decoder.decode(GOOD, "good").tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(decode, range(4))) == {picture(0).tobytes()}
    processes: list[subprocess.Popen[bytes]] = [each._process for each in decoder._idle]
    assert 1 <= len(processes) <= 4
    decoder.close()
    assert all(process.returncode == 0 for process in processes)


def test_a_decoder_ends_with_the_process_that_started_it() -> None:
    process = image_decoder._DecoderProcess(SourcePolicy())
    process._requests.close()  # as the system does for a process that was killed
    assert process._process.wait(timeout=30) == 0
    process.end()


@pytest.mark.parametrize("amounts", [(5, 5, 5), (50, 1), (10, 10)])
def test_pixels_beyond_the_budget_wait_and_a_single_large_image_is_let_in(amounts: tuple[int, ...]) -> None:
    budget, lock, most, taken = image_decoder._PixelBudget(10), threading.Lock(), 0, 0

    def work(amount: int) -> None:
        nonlocal most, taken
        with budget.taken(amount):
            with lock:
                taken += amount
                most = max(most, taken)
            with lock:
                taken -= amount

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, amounts))
    assert most <= max(10, *amounts)


@pytest.mark.parametrize("name", ["max_bytes", "max_pixels", "decode_timeout_s", "decode_memory_bytes"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=f"sources.{name} must be above 0, got 0"):
        SourcePolicy(**{name: 0})


def test_an_image_with_a_header_that_lies_about_its_frames_is_bounded(decoder: ImageDecoder) -> None:
    gif = bytearray(encoded(picture(0), "GIF"))
    place = gif.index(b",")  # a frame: left, top, width and height follow
    gif[place + 1 : place + 9] = struct.pack("<HHHH", 0, 0, 65535, 65535)
    assert "sources.max_pixels" in refusal(decoder, bytes(gif))


def test_images_of_many_megapixels_arrive_whole(decoder: ImageDecoder) -> None:
    image = Image.linear_gradient("L").resize((3000, 2000))
    assert decoder.decode(encoded(image, "PNG", compress_level=1), "large").getpixel((1500, 1999)) == (255, 255, 255)
