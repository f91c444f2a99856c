"""Numbers of things, in words for people."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Such as ``1 row`` or ``1,200 rows``; ``plural`` is for nouns that take more than an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
