"""The command line. Imports nothing heavy before a command runs, so that ``--help`` answers at once."""

import importlib.metadata
import os
from typing import Annotated

import typer

from jobs.commands import manifest
from jobs.commands.bench import bench
from jobs.commands.catalog import models, tasks
from jobs.commands.doctor import doctor
from jobs.commands.export import export
from jobs.commands.plan import plan
from jobs.commands.replay import replay
from jobs.commands.report import report
from jobs.commands.retry import retry
from jobs.commands.run import run
from jobs.commands.status import status
from jobs.commands.support import begin_logging
from jobs.commands.verify import verify

app = typer.Typer(
    name="dimoo-batch",
    help="Offline batch engine for Lumina-DiMOO: make images and texts from a Parquet manifest.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(manifest.app, name="manifest")


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        print(f"dimoo-batch {importlib.metadata.version('dimoo-batch')}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Offline batch engine for Lumina-DiMOO: make images and texts from a Parquet manifest."""
    # Threads that spin while they wait take the cores from each other where there is more than one process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    begin_logging()


_COMMANDS = (
    (run, "Run a manifest. Re-run the same command to resume."),
    (plan, "Show what a run would do and cost."),
    (status, "Show a run's progress."),
    (retry, "Retry the failed rows of a run."),
    (verify, "Check that an output is complete and undamaged."),
    (report, "Write a page to browse the results."),
    (export, "Export finished rows for other tools."),
    (replay, "Run one row of a run again and show its steps."),
    (tasks, "List the tasks and their columns."),
    (models, "List the checkpoints available to --model."),
    (doctor, "Diagnose this machine."),
    (bench, "Measure this machine: images and captions per hour."),
)
"""In the order of a run's life; ``--help`` lists them so."""

for _command, _words in _COMMANDS:
    app.command(short_help=_words)(_command)


def main() -> None:
    """Entry point of the console script."""
    app()
