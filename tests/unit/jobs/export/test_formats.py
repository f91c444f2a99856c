"""The table of formats is what the command, its help and the docs say."""

import re
from pkgutil import resolve_name

from typer.testing import CliRunner

from jobs.cli import app
from jobs.export.formats import FORMATS
from tests.support.command import REPOSITORY


def test_the_docs_list_the_formats_of_the_table() -> None:
    page = (REPOSITORY / "docs" / "export.md").read_text()
    assert re.findall(r"^\| `([a-z][a-z-]*)` \|", page, re.MULTILINE) == list(FORMATS)


def test_the_help_says_what_each_format_is() -> None:
    words = " ".join(CliRunner().invoke(app, ["export", "--help"]).output.split())
    for name, each in FORMATS.items():
        assert f"{name}: {each.summary}" in words


def test_every_format_has_a_writer() -> None:
    for each in FORMATS.values():
        assert {"add", "finish", "close"} <= set(dir(resolve_name(each.writer)))
