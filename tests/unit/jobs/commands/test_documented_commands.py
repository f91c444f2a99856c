"""Every ``dimoo-batch`` command in the documentation is one that the command line takes."""

import re
import shlex
from typing import Any

import pytest
import typer.main

from jobs.cli import app
from tests.support.command import REPOSITORY

UsageError: Any = typer.BadParameter.__base__
PAGES = sorted([REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")])
_LINE = re.compile(r"^ {4,}(dimoo-batch (?:.*\\\n)*.*)", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Page and command line of each, comments left out; one that ends in a backslash goes on in the next line."""
    return [
        (page.name, line.replace("\\\n", " ").partition("  #")[0].strip())
        for page in PAGES
        for line in _LINE.findall(page.read_text(encoding="utf-8"))
    ]


def parse(line: str) -> None:
    """As the command line does, without running anything.

    Raises:
        UsageError: It would be refused.
    """
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="dimoo-batch")
    while hasattr(command, "get_command"):
        inner = command.get_command(context, words[0])
        if inner is None:
            raise UsageError(f"no such command: {words[0]}")
        command, context, words = inner, command.context_class(inner, info_name=words[0], parent=context), words[1:]
    command.parse_args(context, words)


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_documented_command_is_taken(page: str, line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line", ["dimoo-batch nothing", "dimoo-batch run m.parquet --no-such-option", "dimoo-batch status"]
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises(UsageError):
        parse(line)


def test_there_are_commands_for_most_pages() -> None:
    assert len(commands()) > 25
