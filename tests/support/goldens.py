"""Recorded reference results in a form small enough for the repository.

``python -m tests.support.goldens pack SOURCE [--without NAME ...]`` stores a golden directory in ``tests/goldens``;
``python -m tests.support.goldens unpack TARGET`` restores it, byte for byte.

Text files are stored as they are. A safetensors file is cut into byte planes (every n-th byte together, so that signs
and exponents lie side by side) and compressed with xz: random bfloat16 weights shrink to two thirds.
"""

import argparse
import hashlib
import json
import lzma
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

PACKED = Path(__file__).parents[1] / "goldens"

_MANIFEST = "MANIFEST.json"
_README = "README.md"
_PLANES = (1, 2, 4, 8)  # widths tried: bytes, bfloat16, float32, int64
_TEXT_SUFFIX = ".json"


class DamagedPack(Exception):
    """A stored file is missing or does not restore to what was packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """How one file is stored. ``num_planes`` 0 means as it is."""

    stored: str
    num_planes: int
    num_bytes: int
    sha256: str


def pack(source: Path, target: Path, *, without: Collection[str] = ()) -> dict[str, PackedFile]:
    """Store checkpoints and goldens of ``source``, less the goldens named in ``without``; return what was stored."""
    target.mkdir(parents=True, exist_ok=True)
    packed: dict[str, PackedFile] = {}
    for path in sorted(source.rglob("*.json")) + sorted(source.rglob("*.safetensors")):
        name = path.relative_to(source).as_posix()
        if path.name.split(".")[0] not in without and name != _MANIFEST:
            packed[name] = _pack_file(path, name, target)
    manifest = {name: asdict(packed[name]) for name in sorted(packed)}
    (target / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    kept = {file.stored for file in packed.values()} | {_MANIFEST, _README}
    for stale in [path for path in target.rglob("*") if path.is_file()]:
        if stale.relative_to(target).as_posix() not in kept:
            stale.unlink()
    return packed


def unpack(packed: Path, target: Path) -> Path:
    """Restore every file below ``target`` and return it.

    Raises:
        DamagedPack: If a stored file is missing or restores to anything else than was packed.
    """
    for name, entry in json.loads((packed / _MANIFEST).read_text(encoding="utf-8")).items():
        file = PackedFile(**entry)
        try:
            content = (packed / file.stored).read_bytes()
            if file.num_planes:
                content = _join_planes(lzma.decompress(content), file.num_planes)
        except (OSError, lzma.LZMAError) as error:
            raise DamagedPack(f"cannot restore {name}: {error}") from error
        if len(content) != file.num_bytes or hashlib.sha256(content).hexdigest() != file.sha256:
            raise DamagedPack(f"cannot restore {name}: {file.stored} is not what was packed")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    return target


def _pack_file(path: Path, name: str, target: Path) -> PackedFile:
    content = path.read_bytes()
    stored, num_planes, data = name, 0, content
    if path.suffix != _TEXT_SUFFIX:
        candidates = {width: _compress(content, width) for width in _PLANES}
        num_planes = min(candidates, key=lambda width: len(candidates[width]))
        stored, data = f"{name}.xz", candidates[num_planes]
    (target / stored).parent.mkdir(parents=True, exist_ok=True)
    (target / stored).write_bytes(data)
    digest = hashlib.sha256(content).hexdigest()
    return PackedFile(stored=stored, num_planes=num_planes, num_bytes=len(content), sha256=digest)


def _compress(content: bytes, num_planes: int) -> bytes:
    """One literal context for all bytes where the planes hold noise: xz's own settings expect text."""
    options = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
    if num_planes > 1:
        options |= {"lc": 0, "lp": 0, "pb": 0}
    return lzma.compress(_split_planes(content, num_planes), filters=[options])


def _split_planes(content: bytes, num_planes: int) -> bytes:
    return b"".join(content[plane::num_planes] for plane in range(num_planes))


def _join_planes(planes: bytes, num_planes: int) -> bytes:
    content, start = bytearray(len(planes)), 0
    for plane in range(num_planes):
        length = len(range(plane, len(planes), num_planes))
        content[plane::num_planes] = planes[start : start + length]
        start += length
    return bytes(content)


def main() -> None:
    """Pack or unpack, as asked on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.goldens")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("source", type=Path)
    packing.add_argument("--without", nargs="*", default=(), metavar="NAME")
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("target", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "unpack":
        unpack(PACKED, arguments.target)
        return
    packed = pack(arguments.source, PACKED, without=arguments.without)
    size = sum((PACKED / file.stored).stat().st_size for file in packed.values())
    print(f"{len(packed)} files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
