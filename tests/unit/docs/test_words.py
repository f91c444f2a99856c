"""The documents use the field's words, not a dialect of this project's own."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping

import pytest

from dimoo_batch._finder import PACKAGES
from tests.support.command import REPOSITORY

_UNITS = "second|minute|hour|day|step|line|row|worker|machine|GPU|segment|turn"
PHRASES = {
    r"(go|goes|going|went|gone) on\b": "resume, continue",
    r"anew|once more": "again",
    r"signs? of (life|progress)|heard": "heartbeat",
    r"in hand": "in flight",
    r"mend(s|ed|ing)?": "fix",
    r"in good order": "gracefully",
    r"guilty|convicted": "poison, quarantined",
    rf"(one|rows?|images?|tokens?|captions?|answers?|requests?|writes?|words?|prompts?|objects?) an? ({_UNITS})": "per",
    r"what is wrong with|find(s|ing)? out what": "diagnose",
    r"how far (a|the|this) run is": "progress",
    r"(how|not|less|more|so|very|is|are) sure|sure (of|codes|tokens|ones)": "confident, confidence",
    r"decides? (early|at once|more|fewer|less)|decided (at once|early)": "commit",
    r"(it|they|that|which|command|run|page|summary|message|file|code|driver|worker|doctor|status|verify|plan|option)s? "
    r"(tells?|told|says?|said)": "print, report",
    r"(is|are|was|were|being) (told|said)": "reported, printed",
    r"likeness": "similarity",
    r"one's own": "your own, custom",
}
IN_CODE = PHRASES | {
    r"told|tells|says|said": "reported, printed, shown",
    r"no run lies": "no run is",
    r"(patience|pace|slab|sign of life|lone row|hasty|what becomes of|come what may)": "see the glossary",
    r"sent back|send(s|ing)? back": "preempt",
}
"""Of docstrings and comments, also where a page may have the word."""
MORE = ("README.md", "mkdocs.yml", "benchmarks/README.md")


def documents() -> Iterator[tuple[str, str]]:
    """Names and prose of the pages; without code and what the program prints."""
    for page in (*map(REPOSITORY.joinpath, MORE), *sorted(REPOSITORY.glob("docs/**/*.md"))):
        yield str(page.relative_to(REPOSITORY)), prose(page.read_text(encoding="utf-8"))


def examples() -> Iterator[tuple[str, str]]:
    """Names and texts of the examples, code included."""
    for path in sorted((REPOSITORY / "examples").rglob("*")):
        if path.is_file() and path.suffix not in (".parquet", ".pyc"):
            yield str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8")


def prose(text: str) -> str:
    """A page without code, links' targets, texts of the program, and what a program wrote of it."""
    text = text.partition("The rest of this page is the output of this command")[0]
    return re.sub(r"^```[\s\S]*?^```$|^ {4}.*$|`[^`]*`|\]\([^)]*\)", "", text, flags=re.MULTILINE)


def program() -> Iterator[tuple[str, str]]:
    """Modules and what they may print: their texts, and of commands the docstrings too, which are ``--help``."""
    for package in ("dimoo_batch", *PACKAGES):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            name, tree = str(path.relative_to(REPOSITORY)), ast.parse(path.read_text(encoding="utf-8"))
            is_help = name.startswith("jobs/commands/")
            kept = [] if is_help else [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
            texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in kept)
            strings = (each.value for each in texts if isinstance(each.value, str))
            yield name, "\n\n".join(text for text in strings if not text.isidentifier())  # keys stay


def comments() -> Iterator[tuple[str, str]]:
    """Modules and their docstrings and comments, without names of code."""
    for package in ("dimoo_batch", *PACKAGES):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            code = path.read_text(encoding="utf-8")
            expressions = (node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Expr))
            texts = [each.value for each in expressions if isinstance(each, ast.Constant)]
            tokens = tokenize.generate_tokens(io.StringIO(code).readline)
            texts += [token.string for token in tokens if token.type == tokenize.COMMENT]
            prose_alone = re.sub(r"``.*?``|^ +\w+:", "", "\n\n".join(filter(None, map(str, texts))), flags=re.MULTILINE)
            yield str(path.relative_to(REPOSITORY)), prose_alone


TEXTS = [*documents(), *examples(), *program()]
COMMENTS = [*comments()]


def dialect(text: str, phrases: Mapping[str, str]) -> Iterator[str]:
    """What is found, and what to write in its place."""
    for phrase, better in phrases.items():
        for paragraph in text.split("\n\n"):
            for match in re.finditer(rf"\b(?:{phrase})\b", " ".join(paragraph.split()), re.IGNORECASE):
                yield f"{match[0]!r}: {better}"


@pytest.mark.parametrize(("name", "text"), TEXTS, ids=[name for name, _ in TEXTS])
def test_a_text_uses_the_words_of_the_field(name: str, text: str) -> None:
    assert list(dialect(text, PHRASES)) == []


@pytest.mark.parametrize(("name", "text"), COMMENTS, ids=[name for name, _ in COMMENTS])
def test_a_docstring_uses_the_words_of_the_field(name: str, text: str) -> None:
    assert list(dialect(text, IN_CODE)) == []


@pytest.mark.parametrize("planted", ["What the page says.", "See below.\n\nThe run goes on.", "# so it is told"])
def test_a_planted_docstring_is_found(planted: str) -> None:
    assert len(list(dialect(planted, IN_CODE))) >= 1


@pytest.mark.parametrize(
    "sentence",
    ["The same command goes on.", "It is made anew.", "rows a second", "one a GPU", "the summary says so", "is told"],
)
def test_the_words_of_a_dialect_are_found(sentence: str) -> None:
    assert any(re.search(rf"\b(?:{phrase})\b", prose(sentence), re.IGNORECASE) for phrase in PHRASES)


@pytest.mark.parametrize(
    "sentence",
    ["cannot be told apart", "from a row that goes onto", "`mended` (rows)", "one row at a time", "a second request"],
)
def test_innocent_words_are_left_alone(sentence: str) -> None:
    assert not any(re.search(rf"\b(?:{phrase})\b", prose(sentence), re.IGNORECASE) for phrase in PHRASES)
