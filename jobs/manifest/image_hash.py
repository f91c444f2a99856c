"""A perceptual hash: images that look alike, though scaled or compressed anew, have hashes that differ in few bits."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_BITS = 64
MAX_COLOR_DIFFERENCE = 12
"""Of the mean of a channel, from 0 to 255: shapes of another colour are another picture."""

_SIDE, _FREQUENCIES = 32, 8
_LEAST_DETAIL = 16.0  # a wave of about one grey level, which compression neither makes nor removes


@dataclass(frozen=True, slots=True)
class ImageHash:
    """``bits`` from the image's brightness, ``color`` its mean red, green and blue."""

    bits: int
    color: tuple[int, int, int]

    def is_like(self, other: "ImageHash", max_distance: int) -> bool:
        """Whether the two differ in at most so many bits, and hardly in colour."""
        differences = (abs(ours - theirs) for ours, theirs in zip(self.color, other.color, strict=True))
        return (self.bits ^ other.bits).bit_count() <= max_distance and max(differences) <= MAX_COLOR_DIFFERENCE


def image_hash(image: Image.Image) -> ImageHash:
    """The hash of an RGB image.

    Source: the discrete cosine transform of 32x32 grey pixels; a bit for each of the 8x8 lowest frequencies, as in
    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2. Different: a bit
    says whether its coefficient is above a fixed bound, there above their median, which in smooth images is close to
    most of them; and the mean colour is kept too.
    """
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    basis = _cosines()
    lowest = (basis @ grey @ basis.T).ravel()
    is_above = lowest > _LEAST_DETAIL
    is_above[0] = False  # brightness; the mean colour has it
    bits = int.from_bytes(np.packbits(is_above).tobytes(), "big")
    red, green, blue = np.asarray(image.resize((1, 1), Image.Resampling.BOX)).reshape(-1).tolist()
    return ImageHash(bits, (red, green, blue))


def _cosines() -> npt.NDArray[np.float64]:
    """Rows of the orthonormal DCT-II for the lowest frequencies, (frequency, pixel)."""
    frequencies, pixels = np.arange(_FREQUENCIES)[:, None], np.arange(_SIDE)[None, :]
    basis = np.cos(np.pi * (2 * pixels + 1) * frequencies / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, dtype=np.float64)
