"""What every command has in common: exit codes, how it ends with a message, and that our packages are ours."""

import importlib.util
from pathlib import Path
from typing import Any, NoReturn

import typer

from manifests.public_text import public_text

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_TOO_MANY_FAILURES = 4
_PACKAGES = ("dimoo_core", "manifests", "pipeline", "jobs")


def fail(message: str, exit_code: int) -> NoReturn:
    """End the command with a message on standard error."""
    typer.echo(f"dimoo-batch: {public_text(message)}", err=True)
    raise typer.Exit(exit_code)


def refuse_shadowed_packages() -> None:
    """Our packages have plain names; stop if another distribution's package would be imported instead of one."""
    home = Path(__file__).resolve().parents[1]
    for name in _PACKAGES:
        found: Any = importlib.util.find_spec(name)
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin is None or origin.parents[1] != home:
            where = origin.parent if origin else "nowhere"
            fail(
                f"the package {name!r} comes from {where}, not from {home}: install dimoo-batch in an environment of "
                "its own",
                EXIT_WRONG_INPUT,
            )
