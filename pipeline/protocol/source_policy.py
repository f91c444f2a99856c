"""What the rows of a manifest may have read for them: from where, how large, and for how long.

A manifest may come from somebody else, and a row names what this machine reads with its own rights. So places that the
manifest's author could not read himself are closed unless the job opens them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from dimoo_core.errors import ConfigError
from dimoo_core.files import expanded_path
from dimoo_core.settings import SECTION
from pipeline.storage.errors import SourceRefused
from pipeline.storage.uri import Location, parse_uri

MAX_INPUT_PIXELS = 178_956_970  # Pillow's own limit for what it calls a decompression bomb
_MIB = 2**20
_LEAST_MEMORY_BYTES = 256 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePolicy:
    """Where input images may be, and what decoding one may cost.

    Schemes other than ``file`` and ``s3`` are never read, so no row can make this machine ask a web server, whatever
    address it names; the S3 endpoint is the environment's, never a row's.
    """

    __pydantic_config__ = SECTION

    local_files: bool | None = None  # None: those of a manifest that is a local file itself
    folders: tuple[str, ...] = ()  # local files are below one of these; none given: anywhere
    buckets: tuple[str, ...] = ()  # none given: every bucket that the credentials can read
    max_bytes: int = 256 * _MIB  # of one image file
    max_pixels: int = MAX_INPUT_PIXELS
    decode_timeout_s: float = 60.0
    decode_memory_bytes: int = 4096 * _MIB  # of one decoder

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "decode_timeout_s", "decode_memory_bytes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"sources.{name} must be above 0, got {getattr(self, name)}")
        if self.decode_memory_bytes < _LEAST_MEMORY_BYTES:
            given = self.decode_memory_bytes
            raise ConfigError(f"sources.decode_memory_bytes must be at least {_LEAST_MEMORY_BYTES}, got {given}")

    def check(self, uri: str, manifest_uri: str) -> None:
        """Make sure that a row of this manifest may have ``uri`` read.

        Args:
            uri: Absolute, or a local path.
            manifest_uri: The manifest file, or its folder.

        Raises:
            SourceRefused: It may not; names the setting that would allow it.
            ConfigError: It is no URI that can be opened.
        """
        location = parse_uri(uri)
        if not location.is_local:
            self._check_bucket(uri, location)
        else:
            self._check_local(uri, location, is_manifest_local=parse_uri(manifest_uri).is_local)

    def _check_bucket(self, uri: str, location: Location) -> None:
        if self.buckets and location.bucket not in self.buckets:
            allowed = ", ".join(self.buckets)
            raise _refused(uri, f"sources.buckets allows {allowed}: add {location.bucket} to it")

    def _check_local(self, uri: str, location: Location, *, is_manifest_local: bool) -> None:
        if self.local_files is False:
            raise _refused(uri, "sources.local_files is false: set it to true to read local files")
        if self.local_files is None and not is_manifest_local:
            hint = "a manifest in a bucket may not name files of this machine: set sources.local_files to true to allow"
            raise _refused(uri, hint)
        if self.folders and not any(_is_below(location.path, folder) for folder in self.folders):
            hint = f"sources.folders allows {', '.join(self.folders)}: add its folder, links are followed"
            raise _refused(uri, hint)


def _is_below(path: str, folder: str) -> bool:
    """Whether a file is in a folder or deeper, wherever links on the way lead."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(expanded_path(folder)))


def _refused(uri: str, hint: str) -> SourceRefused:
    return SourceRefused("read", uri, "SourceRefused", hint)
