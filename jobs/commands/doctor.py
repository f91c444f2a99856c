"""``dimoo-batch doctor`` and ``dimoo-batch models``."""

from typing import Annotated

import typer

from jobs import api
from jobs.commands.options import AsJsonArray
from jobs.commands.support import EXIT_FAILED, echo_result


def doctor(
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Also check this output: access, space, conditional writes.")
    ] = None,
    model: Annotated[str, typer.Option(help="Checkpoint to check.")] = "builtin",
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster to check. (default: RAY_ADDRESS)")] = None,
    as_json: AsJsonArray = False,
) -> None:
    """Diagnose this machine: what would keep a run from working, and how to fix it.

    Checks versions, GPU, memory, disk, Ray and the model; with --output also the store: access, conditional writes,
    free space. Writes one small object there and deletes it.

    \b
    Examples:
      dimoo-batch doctor
      dimoo-batch doctor --output s3://data/images --model Alpha-VLLM/Lumina-DiMOO
      dimoo-batch doctor --json

    Exit status: 0 no problems, 1 problems found.
    """
    diagnoses = list(api.diagnose(output, model, ray_address))
    echo_result(diagnoses, (line for each in diagnoses for line in each.lines()), as_json=as_json)
    raise typer.Exit(EXIT_FAILED if any(each.verdict == "wrong" for each in diagnoses) else 0)
