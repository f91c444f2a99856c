"""Changes to bytes, drawn from a generator: what a broken disk does, and what somebody does on purpose."""

import random
import zlib

_NUMBERS = tuple(
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("little", "big")
)
_MAX_CHANGES = 6


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The data with one to six changes, most of them where the headers are: at both ends."""
    found = bytearray(data)
    for _ in range(rng.randint(1, _MAX_CHANGES)):
        if not found:
            return bytes(found)
        place = _place(len(found), rng)
        match rng.randrange(8):
            case 0:
                found[place] ^= 1 << rng.randrange(8)
            case 1:
                found[place] = rng.randrange(256)
            case 2:
                number = rng.choice(_NUMBERS)
                found[place : place + len(number)] = number
            case 3:
                del found[place : place + rng.randint(1, 64)]
            case 4:
                found[place:place] = found[place : place + rng.randint(1, 64)]
            case 5:
                found[place:place] = rng.randbytes(rng.randint(1, 32))
            case 6:
                del found[rng.randrange(len(found) + 1) :]
            case _:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                found[place : place + 32] = other[start : start + rng.randint(1, 128)]
    return bytes(found)


def _place(size: int, rng: random.Random) -> int:
    near = min(size, 400)
    return rng.choice((rng.randrange(near), size - 1 - rng.randrange(near), rng.randrange(size)))


def with_right_checksums(png: bytes) -> bytes:
    """A PNG whose chunks' checksums are right whatever they hold, so that what is behind them is reached."""
    found, place = bytearray(png), 8
    while place + 12 <= len(found):
        length = int.from_bytes(found[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(found):
            break
        found[end : end + 4] = zlib.crc32(found[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(found)
