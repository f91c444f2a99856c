"""``dimoo-batch doctor`` and ``dimoo-batch models``."""

import json
from typing import Annotated

import typer

from jobs.commands.support import EXIT_FAILED


def doctor(
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Try the store that a run would write to.")
    ] = None,
    model: Annotated[str, typer.Option(help="Look at the checkpoint that a run would load.")] = "builtin",
    ray_address: Annotated[str | None, typer.Option(help="Look at a Ray cluster. (default: RAY_ADDRESS)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array for programs.")] = False,
) -> None:
    """Find out what would keep a run from working here, and say how to mend it.

    Looks at versions, GPU, memory, disk, Ray and the model; with --output also at the store: access, conditional
    writes, room. Writes one small object there and deletes it again.

    \b
    Examples:
      dimoo-batch doctor
      dimoo-batch doctor --output s3://data/images --model Alpha-VLLM/Lumina-DiMOO
      dimoo-batch doctor --json

    Exit status: 0 nothing is wrong, 1 something is.
    """
    from jobs.tools.doctor import (
        diagnose_disk,
        diagnose_gpu,
        diagnose_model,
        diagnose_model_memory,
        diagnose_ray,
        diagnose_shared_memory,
        diagnose_store,
        diagnose_versions,
    )

    diagnoses = [
        *diagnose_versions(),
        diagnose_gpu(),
        diagnose_shared_memory(),
        diagnose_disk(),
        diagnose_ray(ray_address),
        diagnose_model(model),
        *diagnose_model_memory(model),
        *(diagnose_store(output) if output is not None else ()),
    ]
    if as_json:
        typer.echo(json.dumps([diagnosis.to_json() for diagnosis in diagnoses]))
    else:
        for line in (line for diagnosis in diagnoses for line in diagnosis.lines()):
            typer.echo(line)
    raise typer.Exit(EXIT_FAILED if any(each.verdict == "wrong" for each in diagnoses) else 0)


def models(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array for programs.")] = False) -> None:
    """List the checkpoints that --model can name here: embedded, published, and those downloaded before.

    \b
    Examples:
      dimoo-batch models
      dimoo-batch models --json
    """
    from jobs.tools.catalog import model_entries

    entries = model_entries()
    if as_json:
        typer.echo(json.dumps([entry.to_json() for entry in entries]))
        return
    for entry in entries:
        typer.echo(entry.words())
