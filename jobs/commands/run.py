"""``dimoo-batch run``."""

import json
import signal
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AcceptChange, LogJson, LogLevel, Manifest, Model, Overrides, Spec, Workers
from jobs.commands.support import begin_logging, drain_at_signal, raise_stopped, resumable
from pipeline.protocol.shutdown import ShutdownRequest


def run(
    manifest: Manifest,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Where results go; a path or s3://… (default: NAME-output)")
    ] = None,
    model: Model = None,
    workers: Workers = None,
    spec: Spec = None,
    overrides: Overrides = None,
    limit: Annotated[int | None, typer.Option(help="Run the first N rows only.")] = None,
    new_run: Annotated[
        bool, typer.Option("--new-run", help="If the output holds a run with other settings, start one in OUTPUT-2, …")
    ] = False,
    accept_change: AcceptChange = None,
    max_failures: Annotated[
        str | None, typer.Option(metavar="N|P%", help="Stop when more rows than this have failed. (default: never)")
    ] = None,
    log_level: LogLevel = "info",
    log_json: LogJson = False,
) -> None:
    """Run a manifest. Re-run the same command to resume.

    \b
    Examples:
      dimoo-batch run prompts.parquet
      dimoo-batch run s3://data/prompts/ --output s3://data/images --workers 8
      dimoo-batch run photos.parquet --set task=caption --set understanding.max_tokens=128

    Exit status: 0 all rows done, 1 the run failed, 2 wrong input, 3 done but some rows failed, 4 stopped since too many
    rows failed, 130 and 143 stopped by Ctrl-C or SIGTERM.
    """
    flags = {"manifest": manifest, "output": output, "model": model, "workers": workers, "limit": limit}
    begin_logging(log_level, as_json=log_json)
    signal.signal(signal.SIGTERM, raise_stopped)
    target = output or manifest
    with resumable(lambda: target):
        limits = [f"failures.max_failures={max_failures}"] if max_failures is not None else []
        job = api.load_spec(spec, flags, [*(overrides or []), *limits])
        target = job.output_uri
        shutdown = ShutdownRequest()
        drain_at_signal(shutdown, job.worker_life.stop_deadline_s, target)
        with redirect_stdout(sys.stderr):  # Ray prints there when a worker dies, and programs read our output
            options = api.ResumeOptions(accepted=tuple(accept_change or ()), is_new_run=new_run)
            summary = api.run_job(job, options, shutdown)
        for line in () if log_json else api.summary_lines(summary):
            typer.echo(line, err=True)
    typer.echo(json.dumps(asdict(summary)))
    raise typer.Exit(summary.exit_code)
