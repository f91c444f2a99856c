"""The rows of a soak: which are done by the run, which by a retry, and which never."""

from pathlib import Path

import pytest
from PIL import Image

from manifests.row.images import ImageSource
from pipeline.images.inputs import ImageFetcher
from pipeline.storage.errors import ObjectNotFound
from tests.soak.point import Phase
from tests.support.manifest_rows import image_row, text_row, write_manifest

NUM_ROWS = 100
RETRIED_CLASS = "not_found"

_WRONG = frozenset(range(3, NUM_ROWS, 5))  # a width that no image may have
_LATE = frozenset(range(6, NUM_ROWS, 10))  # an input image that comes between the run and the retry
_NEVER = frozenset({9, 59})  # one that never comes


def write_soak_manifest(path: Path) -> Path:
    return write_manifest(path, [_row(number) for number in range(NUM_ROWS)])


def rows_done(phase: Phase) -> frozenset[int]:
    """Those that are finished when a phase has ended well; all others have failed."""
    missing = _WRONG | _NEVER | (_LATE if phase == "run" else frozenset())
    return frozenset(range(NUM_ROWS)) - missing


def show_input_images(patch: pytest.MonkeyPatch, phase: Phase) -> None:
    """From now on input images are where they are in this phase, with nothing read or decoded for them."""

    def fetch(fetcher: ImageFetcher, source: ImageSource, folder_uri: str, **options: object) -> Image.Image:
        if phase == "run" or source.uri != "late.png":
            raise ObjectNotFound("read", str(source.uri), "NotFound")
        return Image.new("RGB", (32, 32))

    patch.setattr(ImageFetcher, "fetch", fetch)


def _row(number: int) -> dict[str, object]:
    name = f"row{number}"
    if number in _WRONG:
        return image_row(name, width=33)
    if number in _LATE | _NEVER:
        uri = "late.png" if number in _LATE else "never.png"
        return text_row(name, uri) | ({"task": "edit"} if number % 20 == 16 else {})
    return image_row(name)
