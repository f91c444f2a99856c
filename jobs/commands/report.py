"""``dimoo-batch report``."""

from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AsJson, Output
from jobs.commands.support import EXIT_WRONG_INPUT, echo_result, exit_codes

DEFAULT_ROWS = 20_000


def report(
    output: Output,
    manifest: Annotated[
        str | None, typer.Option(help="Where the manifest is now, for input images. (default: where the run found it)")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Maximum rows on the page; of more, every n-th.")] = DEFAULT_ROWS,
    as_json: AsJson = False,
) -> None:
    """Write a page to browse the results, a contact sheet and a dataset card into the output.

    The page needs no server and no network: open OUTPUT/report/index.html from a disk, or from static hosting of the
    bucket. It can be written while the run is in progress, and again later.

    \b
    Examples:
      dimoo-batch report prompts-output
      dimoo-batch report s3://data/images --rows 5000
      dimoo-batch report prompts-output --manifest moved/prompts.parquet

    Exit status: 0 written, 1 lost the connection to the store, 2 not a run, or not readable.
    """
    with exit_codes(permanent=EXIT_WRONG_INPUT, other=EXIT_WRONG_INPUT):
        summary = api.write_report(output, manifest=manifest, max_rows=rows)
    lines = (
        f"page           {summary.page}",
        f"contact sheet  {summary.contact_sheet or 'none, there are no pictures'}",
        f"dataset card   {summary.card}",
    )
    echo_result(summary, lines, as_json=as_json)
