"""What every command has in common: exit codes, and how it ends with a message."""

from typing import NoReturn

import typer

from manifests.redact import public_text

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_TOO_MANY_FAILURES = 4


def fail(message: str, exit_code: int) -> NoReturn:
    """End the command with a message on standard error."""
    typer.echo(f"dimoo-batch: {public_text(message)}", err=True)
    raise typer.Exit(exit_code)
