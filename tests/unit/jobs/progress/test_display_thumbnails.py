"""Small pictures of the latest images beside a run's progress."""

import io
from typing import Literal

import pytest
from PIL import Image
from rich.console import Console

from jobs.progress.display import HEIGHT, WIDTH, Thumbnails, can_show, drawn
from pipeline.storage.errors import StoreError


def png(size: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="png")
    return buffer.getvalue()


def lines_of(thumbnails: Thumbnails, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(thumbnails.row(width))
    return [line for line in capture.get().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((1024, 1024), (WIDTH, HEIGHT // 2)),
        ((1536, 768), (WIDTH, HEIGHT // 4)),
        ((768, 1536), (WIDTH // 2, HEIGHT // 2)),
        ((2048, 32), (WIDTH, 1)),
    ],
)
def test_a_picture_has_the_proportions_of_its_image_with_two_pixels_in_a_character(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    lines = drawn(Image.new("RGB", size)).plain.split("\n")
    assert (len(lines[0]), len(lines)) == shown
    assert len({len(line) for line in lines}) == 1


def test_a_character_has_the_colour_of_its_upper_pixel_before_that_of_its_lower_one() -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0))
    for row in range(1, HEIGHT, 2):
        image.paste((0, 0, 255), (0, row, WIDTH, row + 1))
    assert {str(span.style) for span in drawn(image).spans} == {"#ff0000 on #0000ff"}


def test_each_image_is_read_once_and_forgotten_when_it_is_no_longer_among_the_latest() -> None:
    latest, read = ["b", "a"], []

    def reading(key: str) -> bytes:
        read.append(key)
        return png((64, 64), (0, 128, 0))

    thumbnails = Thumbnails(lambda: latest, reading)
    thumbnails.refresh()
    thumbnails.refresh()
    assert read == ["b", "a"]
    latest = ["c", "b"]
    thumbnails.refresh()
    latest = ["a"]
    thumbnails.refresh()
    assert read == ["b", "a", "c", "a"]


def test_as_many_are_shown_as_fit_beside_each_other() -> None:
    thumbnails = Thumbnails(lambda: ["c", "b", "a"], lambda key: png((64, 64), (0, 128, 0)))
    assert lines_of(thumbnails, 100) == []
    thumbnails.refresh()
    for width, number in ((100, 3), (2 * WIDTH + 2, 2), (WIDTH + 1, 1), (WIDTH - 1, 0)):
        lines = lines_of(thumbnails, width)
        assert len(lines) == (HEIGHT // 2 if number else 0)
        assert all(line.count("▀") == number * WIDTH for line in lines)


def test_pictures_of_one_line_take_room_too() -> None:
    thumbnails = Thumbnails(lambda: ["b", "a"], lambda key: png((2048, 32), (0, 128, 0)))
    thumbnails.refresh()
    (line,) = lines_of(thumbnails, WIDTH + 1)
    assert line.count("▀") == WIDTH


def test_an_image_that_cannot_be_read_is_left_out() -> None:
    def reading(key: str) -> bytes:
        if key == "lost":
            raise StoreError("read", "s3://bucket/lost", "NoSuchKey")
        return png((64, 64), (0, 128, 0))

    thumbnails = Thumbnails(lambda: ["lost", "a"], reading)
    thumbnails.refresh()
    assert all(line.count("▀") == WIDTH for line in lines_of(thumbnails, 100))


@pytest.mark.parametrize(("colours", "is_shown"), [("truecolor", True), ("256", False), (None, False)])
def test_pictures_need_a_terminal_with_all_colours(colours: Literal["truecolor", "256"] | None, is_shown: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=colours)
    assert can_show(console) == is_shown
    assert not can_show(Console(file=io.StringIO(), color_system="truecolor"))
