"""``dimoo-batch bench``: how fast this machine is with a model."""

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.commands.support import EXIT_FAILED, EXIT_WRONG_INPUT, fail

if TYPE_CHECKING:
    from dimoo_core.settings import DtypeName
    from jobs.spec.spec import JobSpec
    from jobs.tools.bench_cases import BenchTask


def bench(
    model: Annotated[
        str | None, typer.Option(help="Checkpoint directory, or hub id OWNER/NAME or OWNER/NAME@REVISION.")
    ] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Preset to measure; repeatable. (default: all)")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Size of images in pixels; repeatable. (default: the job's)"),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="text_to_image or caption; repeatable. (default: both)")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="Most rows of a case. (default: as many as fill a step)", min=1)
    ] = None,
    max_seconds: Annotated[float, typer.Option(help="Stop a case after so long and count its steps.", min=0.1)] = 120.0,
    spec: Annotated[Path | None, typer.Option(help="Job spec, YAML or TOML; flags win over it.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one key of the spec; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")] = False,
) -> None:
    """Measure this machine: images and captions an hour for each preset and size, with the engine of a run.

    One process and one device, as one worker of a run has them; storage is not measured. Nothing is written.

    \b
    Examples:
      dimoo-batch bench
      dimoo-batch bench --model Alpha-VLLM/Lumina-DiMOO --size 1024x1024 --size 512x512 --preset exact --preset fast
      dimoo-batch bench --task caption --set understanding.max_tokens=128 --json
      dimoo-batch bench --rows 1 --max-seconds 20

    Exit status: 0 measured, 1 a case failed, 2 wrong input.
    """
    from dimoo_core.errors import ConfigError, DimooError, WeightsError
    from jobs.spec.spec import load_spec

    flags = {"manifest": "none", "model": model}
    try:
        job = load_spec(spec, flags, assignments or [])
        machine, results = _measured(job, preset, _sizes(size or []), _tasks(task), rows, max_seconds)
    except (ConfigError, WeightsError) as error:
        fail(str(error), EXIT_WRONG_INPUT)
    except DimooError as error:
        fail(str(error), EXIT_FAILED)
    from jobs.tools.bench_cases import bench_json, bench_lines

    typer.echo(json.dumps(bench_json(machine, results)) if as_json else "\n".join(bench_lines(machine, results)))
    if failed := [result for result in results if result.error is not None]:
        fail(f"{failed[0].task} {failed[0].size}, {failed[0].preset}: {failed[0].error}", EXIT_FAILED)


def _measured(
    job: "JobSpec",
    presets: list[str] | None,
    sizes: tuple[tuple[int, int], ...],
    tasks: "tuple[BenchTask, ...]",
    rows: int | None,
    max_seconds: float,
) -> tuple[dict[str, Any], list[Any]]:
    import torch

    from dimoo_core.checkpoint.load import load_model
    from dimoo_core.checkpoint.locate import find_checkpoint
    from dimoo_core.presets import PRESETS
    from dimoo_core.settings import EngineConfig
    from jobs.run.resources import check_run_memory, memory_of_shapes, settings_shape
    from jobs.run.workers import Workers
    from jobs.spec.resolve import check_model, with_found_adapter, with_generation_defaults
    from jobs.tools.bench import MachineBench
    from jobs.tools.bench_cases import bench_cases

    checkpoint = find_checkpoint(job.model)
    job = with_found_adapter(with_generation_defaults(job, checkpoint.directory))
    cases = bench_cases(job.row_defaults(), tuple(presets or PRESETS), sizes, tasks)
    device = job.device if job.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    dtype: DtypeName = "bfloat16" if device.startswith("cuda") else "float32"
    dtype = job.dtype if job.dtype != "auto" else dtype
    found = check_model(checkpoint.directory, job.adapter)
    source_px = resolution**2 if isinstance(resolution := job.understanding.resolution, int) else 0
    shapes = [settings_shape(case.settings, found, source_px) for case in cases]
    engine, most = EngineConfig(**dict(job.engine)), rows if rows is not None else job.engine.max_step_tokens
    need = memory_of_shapes(found, device, dtype, engine, shapes, most)
    here = Workers(0, device, 0, 0)
    dtype = check_run_memory(need, here, is_auto=job.dtype == "auto", is_recorded=False, say=_say).dtype
    adapter = find_checkpoint(job.adapter).directory if job.adapter is not None else None
    loaded = load_model(checkpoint.directory, device=device, dtype=dtype, adapter=adapter)
    bench = MachineBench(
        loaded,
        engine,
        input_resolution=job.understanding.resolution,
        own_size_px=(job.text_to_image.width, job.text_to_image.height),
        max_seconds=max_seconds,
        max_rows=rows,
    )
    results = list(bench.run(cases, _say))
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu"
    machine = {
        "model": checkpoint.name,
        "device": device,
        "device_name": f"{name}, {torch.get_num_threads()} threads" if device == "cpu" else name,
        "dtype": dtype,
        "torch": torch.__version__,
        "max_step_tokens": job.engine.max_step_tokens,
    }
    return machine, results


def _say(line: str) -> None:
    typer.echo(f"bench: {line}", err=True)


def _sizes(texts: list[str]) -> tuple[tuple[int, int], ...]:
    from dimoo_core.errors import ConfigError

    sizes = []
    for text in texts:
        width, _, height = text.lower().partition("x")
        if not width.isdecimal() or not height.isdecimal():
            raise ConfigError(f"--size needs WIDTHxHEIGHT, such as 1024x1024, got {text!r}")
        sizes.append((int(width), int(height)))
    return tuple(sizes)


def _tasks(given: list[str] | None) -> "tuple[BenchTask, ...]":
    from typing import get_args

    from dimoo_core.errors import ConfigError
    from jobs.tools.bench_cases import BenchTask

    known: tuple[BenchTask, ...] = get_args(BenchTask)
    if unknown := sorted(set(given or ()) - set(known)):
        raise ConfigError(f"--task must be one of {', '.join(known)}, got {unknown[0]!r}")
    return tuple(name for name in known if not given or name in given)
