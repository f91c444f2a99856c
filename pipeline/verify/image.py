"""Whether an image matches its row: there, of the recorded size, digest, format and shape."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from pipeline.storage.base import Store
from pipeline.storage.errors import ObjectNotFound, StoreError
from pipeline.verify.finding import Finding

_CHUNK_BYTES = 8 << 20  # of one request; more than most images have
_HEAD_BYTES = 64 << 10  # holds format and shape


@dataclass(frozen=True, slots=True)
class ImageClaim:
    """A row's record of its image, and the key of the part that holds the row."""

    part: str
    row: int
    key: str
    sha256: str
    num_bytes: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ImageAudit:
    """What became of the check of one image."""

    key: str
    is_present: bool
    findings: tuple[Finding, ...]


def audit_image(store: Store, claim: ImageClaim, image_format: str) -> ImageAudit:
    """Read one image, a bounded piece at a time, and compare it with its row."""
    digest, num_bytes, head = hashlib.sha256(), 0, b""
    try:
        for chunk in _chunks(store, claim):
            digest.update(chunk)
            num_bytes += len(chunk)
            head = head or chunk[:_HEAD_BYTES]
    except ObjectNotFound:
        finding = Finding(claim.key, "object", f"the image of row {claim.row}", "nothing", claim.part)
        return ImageAudit(claim.key, False, (finding,))
    except StoreError as error:
        if error.retryable:
            raise
        finding = Finding(claim.key, "object", f"the image of row {claim.row}", str(error), claim.part)
        return ImageAudit(claim.key, True, (finding,))
    return ImageAudit(claim.key, True, tuple(_compare(claim, image_format, digest.hexdigest(), num_bytes, head)))


def _chunks(store: Store, claim: ImageClaim) -> Iterator[bytes]:
    """The object's bytes, until its end or until there are more than recorded."""
    offset = 0
    while offset <= claim.num_bytes:
        chunk = store.get_range(claim.key, offset, _CHUNK_BYTES)
        yield chunk
        offset += len(chunk)
        if len(chunk) < _CHUNK_BYTES:
            return


def _compare(claim: ImageClaim, image_format: str, digest: str, num_bytes: int, head: bytes) -> Iterator[Finding]:
    if num_bytes != claim.num_bytes:
        at_least = "at least " if num_bytes > claim.num_bytes and num_bytes % _CHUNK_BYTES == 0 else ""
        yield Finding(claim.key, "size", f"{claim.num_bytes} bytes", f"{at_least}{num_bytes} bytes", claim.part)
    elif digest != claim.sha256:
        yield Finding(claim.key, "sha256", claim.sha256, digest, claim.part)
    elif (shape := _shape(head)) != (expected := f"{image_format} of {claim.width}x{claim.height} pixels"):
        yield Finding(claim.key, "image", expected, shape, claim.part)


def _shape(head: bytes) -> str:
    try:
        with Image.open(io.BytesIO(head)) as image:
            return f"{str(image.format).lower()} of {image.width}x{image.height} pixels"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"no readable image ({type(error).__name__})"
