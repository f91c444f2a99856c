"""``dimoo-batch status``."""

from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AsJson, Output
from jobs.commands.support import EXIT_WRONG_INPUT, echo_result, exit_codes


def status(
    output: Output,
    exact: Annotated[bool, typer.Option("--exact", help="Read every part, whatever their number.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run's progress, from any machine that can read its store.

    Rows done, failed and left, failures by stage and error, rate and ETA, and the last heartbeat of the driver
    and of each worker. Changes nothing and does not disturb the run.

    \b
    Examples:
      dimoo-batch status prompts-output
      dimoo-batch status s3://data/images --json

    Exit status: 0 read, whatever its state; 1 lost the connection to the store; 2 not a run, or not readable.
    """
    with exit_codes(permanent=EXIT_WRONG_INPUT, other=EXIT_WRONG_INPUT):
        found = api.read_status(output, max_parts=None if exact else api.MAX_PARTS_READ)
    echo_result(found, found.lines(), as_json=as_json)
