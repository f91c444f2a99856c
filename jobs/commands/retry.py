"""``dimoo-batch retry``."""

import json
import signal
import sys
from contextlib import redirect_stdout
from functools import partial
from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AcceptChange, LogJson, LogLevel, MovedManifest, Output, Workers
from jobs.commands.support import begin_logging, drain_at_signal, raise_stopped, resumable
from pipeline.protocol.shutdown import ShutdownRequest


def retry(
    output: Output,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Failure class to retry, or all; repeatable. (default: timeout, oom, engine, store, crash)",
        ),
    ] = None,
    manifest: MovedManifest = None,
    model: Annotated[str | None, typer.Option(help="Where the model is now. (default: as in the run)")] = None,
    workers: Workers = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A key of sources, engine, pipeline, failures, worker_life, ray, or device; repeatable.",
        ),
    ] = None,
    accept_change: AcceptChange = None,
    max_failures: Annotated[
        str | None, typer.Option(metavar="N|P%", help="Stop when more rows than this fail again. (default: never)")
    ] = None,
    log_level: LogLevel = "info",
    log_json: LogJson = False,
) -> None:
    """Retry the failed rows of a run, quarantined ones included, with the run's own settings and manifest.

    By default, retries the failure classes that another attempt may fix. For bad_input, not_found and forbidden, fix
    the row, image or permission and name the class. Re-run the same command to resume.

    \b
    Examples:
      dimoo-batch retry prompts-output
      dimoo-batch retry s3://data/captions --class timeout --set failures.row_timeout_s=600
      dimoo-batch retry s3://data/captions --class not_found --class forbidden --workers 8

    Exit status: 0 all rows of the run are done, 1 the retry failed, 2 wrong input, 3 some rows failed again or were
    never run, 4 stopped since too many rows failed again, 130 and 143 stopped by Ctrl-C or SIGTERM.
    """
    begin_logging(log_level, as_json=log_json)
    signal.signal(signal.SIGTERM, raise_stopped)
    limits = [f"failures.max_failures={max_failures}"] if max_failures is not None else []
    options = api.RetryOptions(
        classes=tuple(classes or ()),
        manifest=manifest,
        model=model,
        workers=workers,
        overrides=(*(overrides or ()), *limits),
        accepted=tuple(accept_change or ()),
    )
    shutdown = ShutdownRequest()
    drain = partial(drain_at_signal, shutdown, target=output)
    with resumable(lambda: output):
        with redirect_stdout(sys.stderr):  # Ray prints there when a worker dies, and programs read our output
            summary = api.retry_job(output, options, shutdown, drain)
        for line in () if log_json else summary.lines():
            typer.echo(line, err=True)
    typer.echo(json.dumps(summary.to_json()))
    raise typer.Exit(summary.exit_code)
