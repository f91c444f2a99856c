"""``dimoo-batch export``: finished rows in the forms that other tools read."""

from pathlib import Path
from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AsJson, Hooks, Output
from jobs.commands.support import echo_result, exit_codes
from jobs.text import pluralize


def export(
    output: Output,
    target: Annotated[str, typer.Argument(help="Empty folder for the export; a path or s3://…")],
    to: Annotated[
        str, typer.Option("--to", help="; ".join(f"{name}: {each.summary}" for name, each in api.FORMATS.items()))
    ] = "files",
    sources: Annotated[bool, typer.Option("--sources", help="Add the input images of image results.")] = False,
    drop: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Omit a column; repeatable.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Export an unfinished run.")] = False,
    name: Annotated[str, typer.Option(help="Model name in the folders of a benchmark.")] = "dimoo",
    manifest: Annotated[
        str | None, typer.Option(help="Where the manifest is now, if it was moved and input images are needed.")
    ] = None,
    hooks: Hooks = None,
    score: Annotated[str | None, typer.Option(metavar="HOOK", help="Score each row with this hook.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out rows with a lower score.")] = None,
    blocklist: Annotated[Path | None, typer.Option(help="Leave out texts with these words, one per line.")] = None,
    min_words: Annotated[int, typer.Option(help="Leave out texts with fewer words.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
    as_json: AsJson = False,
) -> None:
    """Export finished rows with their images for other tools; failed rows are left out.

    \b
    Examples:
      dimoo-batch export captions-output dataset --to hf-parquet
      dimoo-batch export s3://bucket/results s3://bucket/shards --to webdataset
      dimoo-batch export edits-output pairs --to imagefolder --sources
      dimoo-batch export captions-output dataset --to hf-parquet --min-words 5 --blocklist words.txt
      dimoo-batch export images-output best --score scorers:sharpness --min-score 0.3
      dimoo-batch export geneval-output geneval-images --to benchmark

    Exit status: 0 exported, 1 storage failed, 2 wrong input.
    """
    request = api.ExportRequest(
        output=output,
        format=to,
        target=target,
        is_partial=partial,
        with_sources=sources,
        overwrites=overwrite,
        drop=tuple(drop or ()),
        model_name=name,
        manifest=manifest,
        hooks=tuple(hooks or ()),
        score=score,
        min_score=min_score,
        blocklist=blocklist,
        min_words=min_words,
    )
    with exit_codes():
        report = api.export_run(request)
    left_out = f", {report.filtered:,} left out" if report.filtered else ""
    made = (
        f"{pluralize(report.rows, 'row')} with {pluralize(report.images, 'image')} in {pluralize(report.files, 'file')}"
    )
    empty = f", {report.empty_texts:,} of empty text (--min-words 1 leaves such out)" if report.empty_texts else ""
    words = f"{made}{left_out}{empty}: {report.target}"
    echo_result(report, [words], as_json=as_json)
