"""Manifests built by the command line, in this process and in the working directory."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from typer.testing import CliRunner

from jobs.cli import app
from manifests.row.parse import Row, parse_rows
from manifests.row.settings import RowDefaults


def build(*arguments: object, exit_code: int = 0) -> dict[str, Any]:
    """Build ``manifest.parquet`` and return the report, or the message with which it ended."""
    ended = CliRunner().invoke(app, ["manifest", "build", *map(str, arguments), "--json"])
    assert ended.exit_code == exit_code, ended.output
    return json.loads(ended.stdout) if exit_code == 0 else {"message": ended.stderr}


def told(*arguments: object) -> str:
    """Build a manifest and return what people are told."""
    ended = CliRunner().invoke(app, ["manifest", "build", *map(str, arguments), "--overwrite"])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def rows(path: str = "manifest.parquet") -> list[dict[str, Any]]:
    """The rows of a manifest, each of which a run must take."""
    table = pq.read_table(path)
    assert all(isinstance(row, Row) for row in parse_rows(table, 0, RowDefaults()))
    return table.to_pylist()


def column(name: str, path: str = "manifest.parquet") -> list[Any]:
    return [row[name] for row in rows(path)]


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name
