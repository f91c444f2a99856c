"""``dimoo-batch manifest``: build one, check one, look at one."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AsJson, Hooks, Manifest, Overrides
from jobs.commands.support import GroupedCommand, echo_result, exit_codes, named_numbers
from jobs.text import pluralize
from manifests.errors import RowFailure

app = typer.Typer(no_args_is_help=True, help="Build, check and show manifests.")

_input, _rows, _selection, _checks, _output = (
    partial(typer.Option, rich_help_panel=name) for name in ("Input", "Rows", "Selection", "Checks", "Output")
)
"""An option, by the group in which ``--help`` lists it."""


@app.command(cls=GroupedCommand, short_help="Build a manifest.")
def build(
    inputs: Annotated[
        list[str] | None, typer.Argument(help="CSV, JSONL, TXT, Parquet or tar files, a folder, or s3://…")
    ] = None,
    to: Annotated[str, _output("--to", help="FILE.parquet, or a folder; a path or s3://…")] = "manifest.parquet",
    source: Annotated[
        str,
        _input(
            "--from",
            help="csv, jsonl, txt, images, webdataset, parquet, geneval, dpg-bench, oneig-en, tiif, imgedit or gedit; "
            "auto tells by the names.",
        ),
    ] = "auto",
    task: Annotated[str | None, _rows(help="Task of every row; see dimoo-batch tasks.")] = None,
    prompt: Annotated[str | None, _rows(help="Prompt, with columns and variables in braces.")] = None,
    variables: Annotated[
        list[str] | None,
        _rows("--var", metavar="NAME=A,B", help="Values for the prompt, or @FILE with one per line; repeatable."),
    ] = None,
    rename: Annotated[list[str] | None, _rows(metavar="OLD=NEW", help="Rename a column.")] = None,
    constants: Annotated[
        list[str] | None, _rows("--set", metavar="NAME=VALUE", help="Set a column in all rows; value in YAML.")
    ] = None,
    types: Annotated[list[str] | None, _rows("--type", metavar="NAME=TYPE", help="string, int, float or bool.")] = None,
    images: Annotated[str | None, _input(help="Base folder of relative image paths.")] = None,
    embed: Annotated[bool, _input("--embed", help="Embed the images in the manifest.")] = False,
    dedupe: Annotated[
        str,
        _selection(help="exact: identical rows, or identical files of a folder; images: near-duplicate images; none."),
    ] = "none",
    distance: Annotated[int, _selection(help="Maximum distance of near-duplicates, of 64 bits.")] = 4,
    sample: Annotated[float | None, _selection(help="Random sample: a share below 1, or a number of rows.")] = None,
    limit: Annotated[int | None, _selection(help="Keep the first N rows.", min=1)] = None,
    repeat: Annotated[int, _selection(help="Copies of each row, each with its own seed.")] = 1,
    splits: Annotated[str | None, _output(metavar="A=0.9,B=0.1", help="Split the rows into files.")] = None,
    seed: Annotated[int, _selection(help="Seed of sampling and splits.")] = 0,
    hooks: Hooks = None,
    blocklist: Annotated[Path | None, _selection(help="Leave out prompts with these words, one per line.")] = None,
    min_words: Annotated[int, _selection(help="Leave out prompts with fewer words.", min=0)] = 0,
    check_images: Annotated[
        bool, _checks("--check-images", help="Decode each image; broken ones are invalid.")
    ] = False,
    skip_invalid: Annotated[bool, _checks("--skip-invalid", help="Leave invalid rows out.")] = False,
    overwrite: Annotated[bool, _output("--overwrite", help="Replace existing files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build a manifest from files, images, archives or prompt sets; every row is checked with the parsing of a run.

    \b
    Examples:
      dimoo-batch manifest build prompts.csv --task text_to_image --to prompts.parquet
      dimoo-batch manifest build photos/ --task caption --dedupe images --to captions.parquet
      dimoo-batch manifest build --prompt "a {color} {animal}" --var color=red,blue --var animal=@animals.txt \\
          --task text_to_image --repeat 4
      dimoo-batch manifest build s3://bucket/shards/ --from webdataset --task caption --to s3://bucket/manifest/
      dimoo-batch manifest build evaluation_metadata.jsonl --from geneval --repeat 4 --to geneval.parquet

    Exit status: 0 built, 1 storage failed, 2 wrong input.
    """
    with exit_codes():
        types_of = dict(api.name_value_pairs("--type", types))
        request = api.BuildRequest(
            inputs=tuple(inputs or ()),
            target=to,
            format=source,  # type: ignore[arg-type]  # checked where it is used
            task=task,
            prompt=prompt,
            variables={name: api.listed_values(value) for name, value in api.name_value_pairs("--var", variables)},
            rename=dict(api.name_value_pairs("--rename", rename)),
            constants={
                name: api.constant_cell(name, value, types_of)
                for name, value in api.name_value_pairs("--set", constants)
            },
            types=types_of,
            images=images,
            embed=embed,
            dedupe=dedupe,  # type: ignore[arg-type]
            distance=distance,
            sample=sample,
            limit=limit,
            repeat=repeat,
            splits=named_numbers("--splits", "NAME=SHARE", splits.split(",") if splits else ()),
            seed=seed,
            skips_invalid=skip_invalid,
            checks_images=check_images,
            overwrites=overwrite,
            hooks=tuple(hooks or ()),
            blocklist=blocklist,
            min_words=min_words,
        )
        report = api.build_manifest(request)
    echo_result(report, _report_lines(report, request), as_json=as_json)


@app.command(short_help="Check a manifest as a run does.")
def validate(
    manifest: Manifest,
    spec: Annotated[Path | None, typer.Option(help="Job spec of the run, YAML or TOML.")] = None,
    overrides: Overrides = None,
    read_images: Annotated[bool, typer.Option("--images", help="Fetch and decode every input image too.")] = False,
    limit: Annotated[int | None, typer.Option(help="Check the first N rows only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines, the totals last.")] = False,
) -> None:
    """Check a manifest with the parsing of a run: rows that are valid here are valid there.

    \b
    Examples:
      dimoo-batch manifest validate prompts.parquet
      dimoo-batch manifest validate s3://bucket/manifest/ --set task=caption --images --json

    Exit status: 0 every row is valid, 1 not readable, 2 wrong columns or options, 3 some rows are invalid.
    """

    def tell(failure: RowFailure) -> None:
        if as_json:
            typer.echo(json.dumps({"row": failure.row, "id": failure.id, "message": failure.message}))
        else:
            typer.echo(f"row {failure.row} ({failure.id}), {failure.stage}: {failure.message}")

    with exit_codes():
        job = api.load_spec(spec, {"manifest": manifest, "limit": limit}, overrides or [])
        totals = api.validate_manifest(job, api.resolved_spec(job).row_defaults(), tell, reads_images=read_images)
    tasks = ", ".join(f"{count} {name}" for name, count in totals.tasks.items())
    of_tasks = f" ({tasks})" if tasks else ""
    words = f"{pluralize(totals.rows, 'row')}: {totals.valid:,} valid{of_tasks}, {totals.invalid:,} invalid"
    echo_result(totals, [words], as_json=as_json)
    raise typer.Exit(3 if totals.invalid else 0)


@app.command(short_help="Show files, columns and rows.")
def show(
    manifest: Manifest,
    rows: Annotated[int, typer.Option("--rows", "-n", help="Number of rows to show.", min=0)] = 5,
    start: Annotated[int, typer.Option(help="First row to show, counted from 0.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows only, as JSON lines.")] = False,
) -> None:
    """Show a manifest's files and columns and some of its rows, whatever tool wrote it.

    \b
    Examples:
      dimoo-batch manifest show prompts.parquet
      dimoo-batch manifest show s3://bucket/manifest/ --start 1000 --rows 20 --json | jq .prompt
    """
    with exit_codes():
        for line in api.shown_lines(manifest, start=start, num_rows=rows, as_json=as_json):
            typer.echo(line)


def _report_lines(report: "api.BuildReport", request: "api.BuildRequest") -> Iterable[str]:
    tasks = ", ".join(f"{count} {name}" for name, count in report.tasks.items())
    duplicates = f", {pluralize(report.duplicates, 'duplicate')} left out" if request.dedupe != "none" else ""
    yield f"{pluralize(report.rows, 'row')} ({tasks}) in {pluralize(len(report.files), 'file')}{duplicates}"
    if report.repeats:
        repeats = pluralize(report.repeats, "duplicate row")
        yield f"  {repeats}. Drop them with --dedupe exact, or vary seeds with --repeat N."
    if report.filtered:
        yield f"  {pluralize(report.filtered, 'row')} left out by hooks and filters"
    if report.invalid:
        yield f"  {pluralize(report.invalid, 'invalid row')} left out"
        yield from (f"    {reason}" for reason in report.reasons[:5])
    yield from (f"  {uri}" for uri in report.files)
    is_one_file = len(report.files) == 1 and request.target.endswith(".parquet")
    yield f"next: dimoo-batch run {report.files[0] if is_one_file else request.target}"
