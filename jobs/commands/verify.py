"""``dimoo-batch verify``."""

import signal
from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import Output
from jobs.commands.support import EXIT_FAILED, EXIT_WRONG_INPUT, exit_codes, fail


def verify(
    output: Output,
    orphans: Annotated[bool, typer.Option("--orphans", help="List objects that nothing in the run refers to.")] = False,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Move damaged objects to _damaged/; the run command makes them again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines, the totals last.")] = False,
) -> None:
    """Check, from the output alone, that a run is complete and undamaged.

    Reads every part, failure and image: each row of the manifest is there exactly once, each image has its recorded
    size and checksum, names and totals agree. Each finding is a line: the object, what was expected, what was found.

    \b
    Examples:
      dimoo-batch verify prompts-output
      dimoo-batch verify s3://data/images --orphans
      dimoo-batch verify prompts-output --set-aside
      dimoo-batch verify prompts-output --json | tail -n 1

    Exit status: 0 complete, 1 incomplete or damaged, 2 not a run, not readable, or in use by a driver so that nothing
    can be moved.
    """
    options = api.VerifyOptions(list_orphans=orphans, as_json=as_json, sets_aside=set_aside)
    try:
        with exit_codes(retryable=EXIT_WRONG_INPUT, permanent=EXIT_WRONG_INPUT, other=EXIT_WRONG_INPUT):
            totals = api.verify_output(output, typer.echo, options, lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        fail("stopped before everything was read", 128 + signal.SIGINT)
    raise typer.Exit(0 if totals.is_complete else EXIT_FAILED)
