"""``dimoo-batch bench``: how fast this machine is with a model."""

from typing import Annotated, get_args

import typer

from dimoo_core.errors import ConfigError
from jobs import api
from jobs.commands.options import AsJson, Model, Overrides, Spec
from jobs.commands.support import EXIT_FAILED, echo_result, exit_codes, fail


def bench(
    model: Model = None,
    preset: Annotated[list[str] | None, typer.Option(help="Preset to measure; repeatable. (default: all)")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size of images in pixels; repeatable. (default: the job's)"),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="text_to_image or caption; repeatable. (default: both)")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Maximum rows per case. (default: enough to fill a step)", min=1)
    ] = None,
    max_seconds: Annotated[float, typer.Option(help="Time limit per case; partial results count.", min=0.1)] = 120.0,
    spec: Spec = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: images and captions per hour for each preset and size, with the engine of a run.

    Uses one process and one device, as one worker of a run does; storage is not measured. Nothing is written.

    \b
    Examples:
      dimoo-batch bench
      dimoo-batch bench --model Alpha-VLLM/Lumina-DiMOO --size 1024x1024 --size 512x512 --preset exact --preset fast
      dimoo-batch bench --task caption --set understanding.max_tokens=128 --json
      dimoo-batch bench --rows 1 --max-seconds 20

    Exit status: 0 measured, 1 a case failed, 2 wrong input.
    """
    flags = {"manifest": "none", "model": model}
    with exit_codes():
        job = api.load_spec(spec, flags, overrides or [])
        cases = api.BenchOptions(tuple(preset or ()), _sizes(size or []), _tasks(task), rows, max_seconds)
        machine, results = api.measure_machine(job, cases)
    echo_result({**machine, "cases": results}, api.bench_lines(machine, results), as_json=as_json)
    if failed := [result for result in results if result.error is not None]:
        fail(f"{failed[0].task} {failed[0].size}, {failed[0].preset}: {failed[0].error}", EXIT_FAILED)


def _sizes(texts: list[str]) -> tuple[tuple[int, int], ...]:
    sizes = []
    for text in texts:
        width, _, height = text.lower().partition("x")
        if not width.isdecimal() or not height.isdecimal():
            raise ConfigError(f"--size needs WIDTHxHEIGHT, such as 1024x1024, got {text!r}")
        sizes.append((int(width), int(height)))
    return tuple(sizes)


def _tasks(given: list[str] | None) -> "tuple[api.BenchTask, ...]":
    known: tuple[api.BenchTask, ...] = get_args(api.BenchTask)
    if unknown := sorted(set(given or ()) - set(known)):
        raise ConfigError(f"--task must be one of {', '.join(known)}, got {unknown[0]!r}")
    return tuple(name for name in known if not given or name in given)
