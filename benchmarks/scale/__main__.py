"""How far one coordinator goes: rows per second, memory, and how busy it keeps a thousand workers.

``python -m benchmarks.scale rows|memory|fleet [--json FILE]``; ``docs/scale.md`` says what is real and what is not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.scale.bit_store import BitStore
from benchmarks.scale.simulated_pool import Fleet
from benchmarks.scale.simulated_run import peak_memory_bytes, plan_of, scan_ids, start_run

_QUIET = Fleet(progress_s=3600.0)  # memory does not depend on how often workers speak


def measure_rows(options: argparse.Namespace) -> dict[str, Any]:
    """Real workers, manifests and store; a null model."""
    from benchmarks.scale.null_run import run_null, write_manifest

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dimoo-scale-")))
        root = str(folder)
        if options.store == "s3":
            from tests.support.s3_server import running_s3_server  # the server that the tests use

            server = stack.enter_context(running_s3_server())
            os.environ |= server.env()
            root = f"s3://{server.make_bucket('scale')}"
        results = {}
        for kind in ("texts", "images"):
            manifest = folder / f"{kind}.parquet"
            write_manifest(manifest, kind, options.rows)
            output = f"{root}/{kind}"
            results[kind] = run_null(manifest, output, num_workers=options.workers, segment_rows=options.segment_rows)
            print(_rows_line(kind, results[kind]), flush=True)
    return results


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Drivers of ever larger manifests, each in a process of its own; a first start, then one that finds all done."""
    results = {}
    for size in options.sizes:
        command = [sys.executable, "-m", "benchmarks.scale", "driver", f"--rows={size}"]
        command += [f"--segment-rows={options.segment_rows}"] + ["--ids"] * options.ids
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results[str(size)] = json.loads(answer)
        print(f"{size:.0e} rows: {_memory_line(results[str(size)])}", flush=True)
    return results


def measure_driver(options: argparse.Namespace) -> dict[str, Any]:
    """One of the processes of ``measure_memory``."""
    result: dict[str, Any] = {}
    if options.ids:
        with tempfile.TemporaryDirectory(prefix="dimoo-ids-") as folder:
            result["ids_cpu_s"] = scan_ids(options.rows, Path(folder))
        result["ids_peak_memory_bytes"] = peak_memory_bytes()
    plan = plan_of(options.rows, options.segment_rows)
    store = BitStore(plan)
    result["first_start"] = start_run(store, plan, _QUIET)
    if plan.num_segments <= options.max_resumed_segments:
        store.num_requests.clear()
        result["resume"] = start_run(store, plan, _QUIET)
    return result


def measure_fleet(options: argparse.Namespace) -> dict[str, Any]:
    """A thousand workers on a clock of their own, some of them slow, some of them dying."""
    fleet = Fleet(
        num_workers=options.workers,
        row_s=options.row_s,
        deaths_per_hour=options.deaths_per_hour,
        progress_s=options.progress_s,
    )
    plan = plan_of(options.rows, options.segment_rows)
    result = start_run(BitStore(plan), plan, fleet)
    print(
        f"{options.workers} workers, {result['rows']} rows in {result['span_s']:.0f} s of theirs: "
        f"{result['utilisation']:.2%} of their time was useful, {result['deaths']} died; coordinator "
        f"{result['coordinator_cpu_s']:.1f} s for {result['events']} events"
    )
    return result


def _rows_line(kind: str, result: dict[str, Any]) -> str:
    coordinator_us, worker_us = result["coordinator_cpu_us_a_row"], result["worker_cpu_us_a_row"]
    which = "coordinator" if coordinator_us > worker_us else "workers"
    return (
        f"{kind}: {result['rows_per_s']:.0f} rows/s; processor time a row: coordinator {coordinator_us:.0f} us, "
        f"workers {worker_us:.0f} us, so the bottleneck is the {which}"
    )


def _memory_line(result: dict[str, Any]) -> str:
    peak = max(start["peak_memory_bytes"] for start in result.values() if isinstance(start, dict))
    return f"{peak / 1e6:.1f} MB, coordinator {result['first_start']['coordinator_cpu_s']:.1f} s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="measure", required=True)
    rows = commands.add_parser("rows", help="rows a second through one coordinator with a null model")
    rows.add_argument("--rows", type=int, default=20_000)
    rows.add_argument("--workers", type=int, default=2, help="processes")
    rows.add_argument("--store", choices=["local", "s3"], default="local")
    memory = commands.add_parser("memory", help="memory of the driver by the size of the manifest")
    memory.add_argument("--sizes", type=lambda text: int(float(text)), nargs="+", default=[10**6, 10**7, 10**8])
    fleet = commands.add_parser("fleet", help="how busy many workers are")
    fleet.add_argument("--rows", type=int, default=3_600_000)
    fleet.add_argument("--workers", type=int, default=1000)
    fleet.add_argument("--row-s", type=float, default=1.0, help="time of a worker for a row")
    fleet.add_argument("--deaths-per-hour", type=float, default=0.01, help="of one worker")
    fleet.add_argument(
        "--progress-s", type=float, default=0.5, help="from one sign of progress of a worker to the next"
    )
    driver = commands.add_parser("driver", help="one process of the memory measurement; prints JSON")
    driver.add_argument("--rows", type=int, required=True)
    driver.add_argument("--max-resumed-segments", type=int, default=200_000, help="a resume of more is left out")
    for command in (memory, driver):
        command.add_argument("--ids", action="store_true", help="also look for ids that occur twice")
    for command in (rows, memory, fleet, driver):
        command.add_argument("--segment-rows", type=int, default=64)
        command.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the numbers if asked to."""
    options = _parser().parse_args(arguments)
    measures = {"rows": measure_rows, "memory": measure_memory, "fleet": measure_fleet, "driver": measure_driver}
    result = measures[options.measure](options)
    if options.measure == "driver":
        print(json.dumps(result))
    if options.json is not None:
        import torch  # a driver that only hands out leases does without, so its memory is measured without

        from benchmarks.result_file import environment, write_result

        settings = {name: value for name, value in vars(options).items() if name not in ("json", "measure")}
        load = {"load_average": os.getloadavg()[0]}
        head = {"benchmark": f"scale {options.measure}", **environment(torch.device("cpu")), **load}
        write_result(options.json, {**head, "settings": settings, "results": result})


if __name__ == "__main__":
    main()
