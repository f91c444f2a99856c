"""Where things are: local paths, ``file://`` and ``s3://`` URIs, taken apart without touching any store."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from dimoo_core.errors import ConfigError
from dimoo_core.files import expanded_path
from manifests.redact import redact_uri

ALLOWED_URIS = "a local path, file:///path or s3://bucket/prefix"

# Two letters at least, so that C:/x stays a path; one slash is enough, because Path("s3://b/x") prints as s3:/b/x.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?=/)")
_BUCKET_SCHEMES = ("s3",)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed URI; ``bucket`` is empty for local paths."""

    scheme: str
    bucket: str
    path: str

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return self.scheme == "file"


def parse_uri(uri: str) -> Location:
    """Take a URI apart.

    S3 URIs are not percent-decoded and have no query part: every character after the bucket belongs to the key. Only
    ``.`` and ``..`` are resolved as in a path, since S3 has no keys with such parts and manifests do.

    Raises:
        ConfigError: The scheme is unknown, or the URI names no place.
    """
    match = _SCHEME.match(uri)
    if match is None:
        if not uri or "\0" in uri:
            raise ConfigError(f"{redact_uri(uri)!r} names no place, allowed: {ALLOWED_URIS}")
        return Location("file", "", _expanded(uri))
    scheme, rest = match[1].lower(), uri[match.end() :]
    if scheme in _BUCKET_SCHEMES and rest.startswith("//"):
        bucket, _, path = rest[2:].partition("/")
        if _BUCKET.fullmatch(bucket):
            return Location(scheme, bucket, _resolve_dots(path, uri))
        raise ConfigError(f"{redact_uri(uri)!r} has no valid bucket name, write {scheme}://bucket/prefix")
    if scheme == "file":
        path = re.sub(r"^//(localhost)?(?=/)", "", unquote(rest))
        if not path.startswith("//") and "\0" not in path:
            return Location("file", "", path)
    raise ConfigError(f"{redact_uri(uri)!r} cannot be opened, allowed: {ALLOWED_URIS}")


def split_uri(uri: str) -> tuple[str, str]:
    """The root to give to ``open_store`` and the key of the one object that ``uri`` names.

    The root of an S3 object is its bucket, that of a local file its folder.
    """
    location = parse_uri(uri)
    if location.is_local:
        folder, slash, key = location.path.rpartition("/")
        root = (folder or slash) or "."
    else:
        root, key = f"{location.scheme}://{location.bucket}", location.path
    if not key or key.endswith("/") or key in (".", ".."):
        raise ConfigError(f"{redact_uri(uri)!r} names a folder, not an object")
    return root, key


def is_relative(uri: str) -> bool:
    """Whether the URI is a local path that depends on where it starts."""
    return not _SCHEME.match(uri) and not _expanded(uri).startswith("/")


def resolve_uri(folder: str, uri: str) -> str:
    """The URI, with one that is relative joined to the folder where it starts."""
    return f"{folder.rstrip('/')}/{uri}" if is_relative(uri) else uri


def folder_of(uri: str) -> str:
    """The folder of an object, without a slash at the end unless it is ``/``: where its relative URIs start."""
    root, key = split_uri(uri)
    folder = key.rpartition("/")[0]
    return f"{root}/{folder}" if folder else root


def _expanded(uri: str) -> str:
    """The path with a home folder in place of ``~`` or ``~user`` before a slash; ``~tmp.jpg`` is a name like others."""
    if not uri.startswith("~") or ("/" not in uri and uri != "~"):
        return uri
    return str(expanded_path(uri))


def _resolve_dots(path: str, uri: str) -> str:
    """The path without ``.`` and ``..`` parts; empty parts stay, S3 keys may have them."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and not parts:
            raise ConfigError(f"{redact_uri(uri)!r} leaves its bucket")
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
