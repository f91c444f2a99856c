"""``dimoo-batch replay``."""

from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AsJson, MovedManifest, Output
from jobs.commands.support import EXIT_FAILED, EXIT_WRONG_INPUT, echo_result, exit_codes


def replay(
    output: Output,
    row_id: Annotated[str, typer.Argument(help="Id of the row, or its number in the manifest.")],
    manifest: MovedManifest = None,
    as_json: AsJson = False,
) -> None:
    """Run one row of a run again, alone, and save images of its steps.

    Uses the model, seed and settings recorded by the run, and compares the result with the run's, which stays as it
    is. The images are saved in OUTPUT/replay/; the next report shows them on the row's page.

    \b
    Examples:
      dimoo-batch replay prompts-output lighthouse-7
      dimoo-batch replay s3://data/images 4711 --manifest moved/prompts.parquet

    Exit status: 0 same result as the run's, or the run had none; 1 different result; 2 wrong input.
    """
    with exit_codes(retryable=EXIT_WRONG_INPUT, permanent=EXIT_WRONG_INPUT, other=EXIT_WRONG_INPUT):
        summary = api.replay_row(output, row_id, manifest=manifest)
    same = {True: "the same as the run's", False: "DIFFERENT from the run's", None: "the run has none to compare"}
    lines = [
        f"row {summary.row} ({summary.id}) in {summary.steps} steps: {summary.outcome.strip()}",
        f"  result  {same[summary.is_same]}",
    ]
    if summary.strip:
        lines.append(f"  strip   {len(summary.strip)} images, {summary.strip[0]} to {summary.strip[-1]}")
    echo_result(summary, lines, as_json=as_json)
    raise typer.Exit(EXIT_FAILED if summary.is_same is False else 0)
