"""Small pictures of the images that were made last, drawn with coloured characters, two pixels in each."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self

from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.store_errors import StoreError

WIDTH, HEIGHT = 20, 20
"""Most pixels of a picture; a character is one wide and two high, which is nearly a square."""

_INTERVAL_S = 2.0
_UPPER_HALF = "▀"


class Thumbnails:
    """Reads the latest images in a thread of its own, so that a slow store does not hold up the run.

    What cannot be read is not shown: the run itself says what is wrong with its store.

    Args:
        latest: Keys of the images that were made last, the newest first.
        read: The bytes of one.
    """

    def __init__(self, latest: Callable[[], Sequence[str]], read: Callable[[str], bytes]) -> None:
        self._latest = latest
        self._read = read
        self._drawn: dict[str, Text] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="thumbnails", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_INTERVAL_S)

    def refresh(self) -> None:
        """Draw the latest images that are not drawn yet, and forget those that no longer are among them."""
        drawn: dict[str, Text] = {}
        for key in self._latest():
            picture = self._drawn.get(key) or self._picture(key)
            if picture is not None:
                drawn[key] = picture
        self._drawn = drawn

    def row(self, width: int) -> Table:
        """As many of them side by side as fit into so many characters, the newest first."""
        pictures = list(_fitting(self._drawn.values(), width))
        grid = Table.grid(padding=(0, 1))
        if pictures:
            grid.add_row(*pictures)
        return grid

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self.refresh()

    def _picture(self, key: str) -> Text | None:
        try:
            data = self._read(key)
        except StoreError:
            return None
        with Image.open(io.BytesIO(data)) as image:
            return drawn(image)


def drawn(image: Image.Image) -> Text:
    """A picture of at most ``WIDTH`` x ``HEIGHT`` pixels, in the image's proportions."""
    small = image.convert("RGB")
    small.thumbnail((WIDTH, HEIGHT))
    columns, rows = small.width, small.height - small.height % 2 or 2
    small = small.resize((columns, rows))
    pixels = small.tobytes()

    def colour(column: int, row: int) -> str:
        start = 3 * (row * columns + column)
        return "#" + pixels[start : start + 3].hex()

    picture = Text(no_wrap=True)
    for row in range(0, rows, 2):
        for column in range(columns):
            picture.append(_UPPER_HALF, f"{colour(column, row)} on {colour(column, row + 1)}")
        if row + 2 < rows:
            picture.append("\n")
    return picture


def can_show(console: Console) -> bool:
    """Whether a terminal has the colours for it."""
    return console.is_terminal and console.color_system == "truecolor"


def _fitting(pictures: Iterable[Text], width: int) -> Iterator[Text]:
    left = width
    for picture in pictures:
        left -= len(picture.plain.partition("\n")[0]) + 1
        if left < 0:
            return
        yield picture
