"""The command line. Imports nothing heavy before a command runs, so that ``--help`` answers at once."""

import importlib.metadata
import json
import os
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands import bench as bench_command
from jobs.commands import export as export_command
from jobs.commands import manifest as manifest_command
from jobs.commands import plan as plan_command
from jobs.commands.doctor import doctor, models
from jobs.commands.replay import replay
from jobs.commands.report import report
from jobs.commands.retry import retry
from jobs.commands.status import status
from jobs.commands.support import EXIT_FAILED, EXIT_WRONG_INPUT, drain_at_signal, fail, raise_stopped

app = typer.Typer(
    name="dimoo-batch",
    help="Offline batch engine for Lumina-DiMOO: make images and texts from a Parquet manifest.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(manifest_command.app, name="manifest")


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        print(f"dimoo-batch {importlib.metadata.version('dimoo-batch')}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version and end.")
    ] = False,
) -> None:
    """Offline batch engine for Lumina-DiMOO: make images and texts from a Parquet manifest."""
    # Threads that spin while they wait take the cores from each other where there is more than one process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run(
    manifest: Annotated[str, typer.Argument(help="Parquet file, or folder of them; a path or s3://…")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Where results go; a path or s3://… (default: NAME-output)")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Checkpoint directory, or hub id OWNER/NAME or OWNER/NAME@REVISION.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Ray workers; 0 works in this process. (default: one a GPU, else 0)")
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="Job spec, YAML or TOML; flags win over it.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one key of the spec; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Run the first N rows only.")] = None,
    new_run: Annotated[
        bool,
        typer.Option("--new-run", help="Leave a run with other settings alone and begin one in OUTPUT-2, …"),
    ] = False,
    accept_change: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Go on although this key of the run has changed; may be repeated."),
    ] = None,
    max_failures: Annotated[
        str | None, typer.Option(metavar="N|P%", help="Stop when more rows than this have failed. (default: never)")
    ] = None,
) -> None:
    """Run a manifest, or go on with a run that was interrupted: it is the same command.

    \b
    Examples:
      dimoo-batch run prompts.parquet
      dimoo-batch run s3://data/prompts/ --output s3://data/images --workers 8
      dimoo-batch run photos.parquet --set task=caption --set understanding.max_tokens=128

    Exit status: 0 all rows done, 1 the run failed, 2 wrong input, 3 done but some rows failed, 4 stopped since too many
    rows failed, 130 and 143 stopped by Ctrl-C or SIGTERM.
    """
    flags = {"manifest": manifest, "output": output, "model": model, "workers": workers, "limit": limit}
    signal.signal(signal.SIGTERM, raise_stopped)
    from jobs.commands.support import ending_with_exit_codes, resume_hint
    from jobs.run.resume import ResumeChoice
    from jobs.run.run import run_job
    from jobs.run.summary import summary_lines
    from jobs.spec.spec import load_spec
    from pipeline.protocol.shutdown import StopNotice

    target = output or manifest
    with ending_with_exit_codes(lambda: target):
        limits = [f"failures.max_failures={max_failures}"] if max_failures is not None else []
        job = load_spec(spec, flags, [*(assignments or []), *limits])
        target = job.output_uri
        notice = StopNotice()
        drain_at_signal(notice, job.worker_life.stop_deadline_s, lambda: f"dimoo-batch: stopped\n{resume_hint(target)}")
        with redirect_stdout(sys.stderr):  # Ray prints there when a worker dies, and programs read our output
            choice = ResumeChoice(accepted=tuple(accept_change or ()), is_new_run=new_run)
            summary = run_job(job, lambda line: typer.echo(line, err=True), choice, notice)
        for line in summary_lines(summary):
            typer.echo(line, err=True)
    typer.echo(json.dumps(summary.to_json()))
    raise typer.Exit(summary.exit_code)


def verify(
    output: Annotated[str, typer.Argument(help="Output of a run; a path or s3://…")],
    orphans: Annotated[bool, typer.Option("--orphans", help="List objects that nothing in the run refers to.")] = False,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Move what is damaged to _damaged/; the run command makes it anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines, the totals last.")] = False,
) -> None:
    """Prove from the output alone that a run is complete and undamaged.

    Reads every part, failure and image: each row of the manifest is there exactly once, each image has its recorded
    size and checksum, names and totals agree. Each finding is a line: the object, what was expected, what was found.

    \b
    Examples:
      dimoo-batch verify prompts-output
      dimoo-batch verify s3://data/images --orphans
      dimoo-batch verify prompts-output --set-aside
      dimoo-batch verify prompts-output --json | tail -n 1

    Exit status: 0 complete, 1 something is wrong or missing, 2 not a run, it cannot be read, or a driver is at
    work and nothing can be set aside.
    """
    from dimoo_core.errors import DimooError
    from jobs.tools.verify import VerifyChoice, verify_output

    choice = VerifyChoice(list_orphans=orphans, as_json=as_json, sets_aside=set_aside)
    try:
        totals = verify_output(output, typer.echo, choice, lambda line: typer.echo(line, err=True))
    except DimooError as error:
        fail(str(error), EXIT_WRONG_INPUT)
    except KeyboardInterrupt:
        fail("stopped before everything was read", 128 + signal.SIGINT)
    raise typer.Exit(0 if totals.is_complete else EXIT_FAILED)


def tasks(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array for programs.")] = False,
) -> None:
    """List what a row can ask for: each task, its columns, an example row as JSON.

    The names that the reference's scripts have for tasks (edit_type) follow; any other view may stand for left in
    multi_view_left.

    \b
    Examples:
      dimoo-batch tasks
      dimoo-batch tasks --json | jq '.[] | select(.name == "inpaint")'
      dimoo-batch tasks --json | jq -c '.[].example' > rows.jsonl
    """
    from jobs.tools.catalog import reference_entries, task_entries

    entries = [*task_entries(), *reference_entries()]
    if as_json:
        typer.echo(json.dumps([entry.to_json() for entry in entries]))
        return
    typer.echo("\n\n".join("\n".join(entry.lines()) for entry in entries))


_COMMANDS = (
    (run, "Run a manifest, or go on with a run that was interrupted."),
    (plan_command.plan, "Tell what a run would do and cost."),
    (status, "Say how far a run is."),
    (retry, "Run failed rows of a run again."),
    (verify, "Prove that an output is complete and undamaged."),
    (report, "Write a page to browse the results."),
    (export_command.export, "Export finished rows for other tools."),
    (replay, "Run one row of a run once more, step by step."),
    (tasks, "List what a row can ask for."),
    (models, "List the checkpoints that --model can name here."),
    (doctor, "Find out what would keep a run from working here."),
    (bench_command.bench, "Measure images and captions an hour of this machine."),
)
"""In the order of a run's life; ``--help`` lists them so."""

for _command, _words in _COMMANDS:
    app.command(short_help=_words)(_command)


def main() -> None:
    """Entry point of the console script."""
    app()
