"""``dimoo-batch plan``: what a run would do, cost and write."""

from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AsJson, Manifest, Model, Overrides, Spec
from jobs.commands.support import echo_result, exit_codes, named_numbers


def plan(
    manifest: Manifest,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Where results would go.")] = None,
    model: Model = None,
    workers: Annotated[int | None, typer.Option(help="Number of workers to plan for. (default: 1)")] = None,
    spec: Spec = None,
    overrides: Overrides = None,
    limit: Annotated[int | None, typer.Option(help="Plan the first N rows only.")] = None,
    read_images: Annotated[bool, typer.Option("--images", help="Read sizes of input images on S3 too.")] = False,
    probe: Annotated[
        int | None, typer.Option(help="Run N rows spread over the manifest and measure them.", min=2)
    ] = None,
    gpus: Annotated[
        list[str] | None, typer.Option("--gpu", help="GPU to estimate for; repeatable. (default: all listed)")
    ] = None,
    prices: Annotated[
        list[str] | None, typer.Option("--price", metavar="GPU=USD", help="Price per hour; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run would do and cost, without a GPU and without loading a model; nothing is written.

    Rows by task and size, invalid rows with reasons, tokens, compute, GPU hours and cost, objects and bytes, and the
    progress of earlier starts.

    \b
    Examples:
      dimoo-batch plan prompts.parquet --model Alpha-VLLM/Lumina-DiMOO --gpu H100 --price H100=1.99
      dimoo-batch plan s3://data/prompts/ --output s3://data/images --workers 8 --json
      dimoo-batch plan prompts.parquet --probe 20

    Exit status: 0 planned, 1 storage or the probe failed, 2 wrong input.
    """
    flags = {"manifest": manifest, "output": output, "model": model, "workers": workers, "limit": limit}
    with exit_codes():
        chosen = api.find_gpus(tuple(gpus or ()), named_numbers("--price", "GPU=USD", prices or ()))
        given = api.load_spec(spec, flags, overrides or [])
        job = api.resolved_spec(given)
        facts, defaults = api.read_model_facts(job.model), job.row_defaults()
        found = api.plan_run(job, defaults, facts, num_workers=job.workers or 1, reads_remote=read_images)
        measured = api.probe_plan(found, given, defaults, facts, probe) if probe else None
    lines = api.plan_lines(found, chosen, measured, num_workers=job.workers or 1)
    echo_result(api.plan_json(found, chosen, measured), lines, as_json=as_json)
