"""What every command has in common: exit codes, signals, and how it ends with a message.

SIGTERM, as a machine that is taken away or a person sends it, lets a run drain; any other command ends at once.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from dimoo_core.errors import ConfigError, DimooError, WeightsError
from manifests.errors import ManifestError
from manifests.redact import redact_text
from pipeline.errors import NotARun, RunInUse, RunStopped, TooManyFailures
from pipeline.protocol.shutdown import ShutdownRequest, exit_after
from pipeline.storage.errors import StoreError

WORK_SHARE = 0.8
"""Of the deadline: what workers get; the rest is for ending them, the epoch and Ray."""


class Stopped(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """The handler as long as there is nothing to drain."""
    raise Stopped(number)


def drain_at_signal(shutdown: ShutdownRequest, deadline_s: float, target: str) -> None:
    """From now on SIGTERM requests a graceful shutdown, and a second one ends the process at once.

    Args:
        shutdown: Requested; if nobody waits for it, ``Stopped`` is raised too. Where that is lost, since the signal
            came while code of others let no exception out, whoever begins to wait finds the request.
        deadline_s: When this process has ended in any case.
        target: The output, for the last words if the process has to end while something hangs.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if shutdown.is_requested:
            raise Stopped(number)
        shutdown.request(WORK_SHARE * deadline_s)
        exit_after(deadline_s, 128 + number, lambda: _say(f"dimoo-batch: stopped\n{resume_hint(target)}"))
        if not shutdown.is_awaited:
            raise Stopped(number)
        _say(f"dimoo-batch: shutting down gracefully, within {deadline_s:g} s; send the signal again to stop at once")

    signal.signal(signal.SIGTERM, handle)


def _say(text: str) -> None:
    """Without the locks of ``sys.stderr``, whose holder may be what hangs."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{text}\n".encode())


EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_TOO_MANY_FAILURES = 4


class GroupedCommand(TyperCommand):
    """Lists options in ``--help`` by their ``rich_help_panel``; those without one last."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """See click."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for name in [*(name for name in groups if name != "Options"), *({"Options"} & groups.keys())]:
            with formatter.section(name):
                formatter.write_dl(groups[name])


def begin_logging(level: str = "info", *, as_json: bool = False) -> None:
    """Have what is reported written to standard error, by people's lines or as JSON."""
    from jobs import api

    if level not in api.LEVELS:
        fail(f"--log-level must be one of {', '.join(api.LEVELS)}, got {level!r}", EXIT_WRONG_INPUT)
    api.begin(level, as_json=as_json)


def fail(message: str, exit_code: int) -> NoReturn:
    """End the command with a message on standard error."""
    typer.echo(f"dimoo-batch: {redact_text(message)}", err=True)
    raise typer.Exit(exit_code)


def named_numbers(option: str, form: str, texts: Iterable[str]) -> dict[str, float]:
    """The values of ``--option NAME=NUMBER``, repeatable; ``form`` is how the help writes it."""
    numbers = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            numbers[name.strip()] = float(value)
        except ValueError as error:
            raise ConfigError(f"{option} needs {form}, got {text!r}") from error
    if "" in numbers:
        raise ConfigError(f"{option} needs {form}, got a number without a name")
    return numbers


def echo_result(value: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print what a command found: one JSON document for programs, or lines for people."""
    typer.echo(json.dumps(value, default=asdict) if as_json else "\n".join(lines))


@contextmanager
def exit_codes(
    *, retryable: int = EXIT_FAILED, permanent: int = EXIT_FAILED, other: int = EXIT_FAILED
) -> Iterator[None]:
    """End the command with a message for any error of ours: 2 for wrong input, else as given.

    Args:
        retryable: The code where a store failed and may work later.
        permanent: The code where a store failed for good.
        other: The code for anything else.
    """
    try:
        yield
    except (ConfigError, ManifestError, WeightsError, NotARun) as error:
        fail(str(error), EXIT_WRONG_INPUT)
    except StoreError as error:
        fail(str(error), retryable if error.retryable else permanent)
    except DimooError as error:
        fail(str(error), other)


@contextmanager
def resumable(target: Callable[[], str]) -> Iterator[None]:
    """End the command for whatever a run raises, with how to resume it; ``target`` is the output, as far as known."""
    try:
        yield
    except (ConfigError, ManifestError, WeightsError, NotARun) as error:
        fail(str(error), EXIT_WRONG_INPUT)
    except StoreError as error:
        fail(str(error), EXIT_FAILED if error.retryable else EXIT_WRONG_INPUT)
    except RunInUse as error:
        fail(str(error), EXIT_FAILED)
    except RunStopped as error:
        _ignore_signals()
        fail(f"{error}\n{resume_hint(target(), error)}", 128 + signal.SIGTERM)
    except DimooError as error:
        exit_code = EXIT_TOO_MANY_FAILURES if isinstance(error, TooManyFailures) else EXIT_FAILED
        fail(f"{error}\n{resume_hint(target(), error)}", exit_code)
    except (KeyboardInterrupt, Stopped) as error:
        _ignore_signals()
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        fail(f"stopped\n{resume_hint(target(), error)}", 128 + number)


def _ignore_signals() -> None:
    """The process is ending: one more signal changes neither its last words nor its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def resume_hint(target: str, error: BaseException | None = None) -> str:
    """How to resume after a stop; a note of ``error`` has the committed rows."""
    committed = getattr(error, "__notes__", [f"Committed rows are safe in {target}."])[-1]
    return f"{committed} Re-run the same command to resume."
