"""Tables of Markdown whose words may come from anywhere."""

from collections.abc import Iterator, Sequence


def table_lines(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A section with a table; rows whose last cell is empty are left out."""
    yield f"\n## {title}\n"
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join('---' for _ in header)} |"
    for row in rows:
        if row[-1]:
            yield f"| {' | '.join(plain_words(cell) for cell in row)} |"


def plain_words(text: str) -> str:
    """The text on one line, unable to break a table or to become markup."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
