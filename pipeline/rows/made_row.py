"""A finished row that nothing has been stored of yet: what hooks of a run look at and change."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from PIL import Image


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The bytes of an image file and the ending that its name should have, with the dot."""

    data: bytes
    suffix: str


class MadeRow:
    """One finished row; hooks may change ``cells["text"]`` and ``pixels``.

    Args:
        cells: The row's columns: those of the manifest, and over them what was made and from what.
        pixels: The row's own image, decoded; None for texts and codes.
        read_input: The image that a text is about, decoded; asked once, if a hook looks at it.
        encode: The file of an image, as the run stores it.
    """

    def __init__(
        self,
        cells: dict[str, Any],
        pixels: Image.Image | None,
        read_input: Callable[[], Image.Image | None],
        encode: Callable[[Image.Image], ImageFile],
    ) -> None:
        self.cells = cells
        self.made_pixels = pixels
        self._read_input = read_input
        self._encode = encode

    @property
    def pixels(self) -> Image.Image | None:
        """The row's image, or the input image of a text; None where there is none."""
        return self._input if self.made_pixels is None else self.made_pixels

    @pixels.setter
    def pixels(self, image: Image.Image) -> None:
        if not isinstance(image, Image.Image):
            raise TypeError(f"pixels must be an image of Pillow, got {type(image).__name__}")
        if self.made_pixels is None:
            raise ValueError("the row has made no image, so there is none to change")
        self.made_pixels = image

    @property
    def image(self) -> ImageFile | None:
        """``pixels`` as a file."""
        pixels = self.pixels
        return None if pixels is None else self._encode(pixels)

    @property
    def words(self) -> str:
        """The answer, or the prompt that the image was made from."""
        text = self.cells["text"]
        return str(self.cells["prompt"] if text is None else text)

    @cached_property
    def _input(self) -> Image.Image | None:
        return self._read_input()
