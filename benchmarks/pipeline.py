"""Whether storage keeps the engine waiting: a whole run on S3 with large images and injected latency.

``python -m benchmarks.pipeline [--captions 24] [--images 8] [--megabytes 4] [--latency-ms 100] [--workers 0]
[--at-least 0.95] [--out FILE]``

A real S3 server on loopback, a proxy before it that delays every request, and ``dimoo-batch run`` as a process of its
own. The worker measures how much of the time between its first and its last step the engine worked; the run's summary
reports it. Exit status 1 if that is less than ``--at-least``. Needs the extra ``test``.
"""

import argparse
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.result_file import environment, write_result
from tests.support.fault_proxy import running_fault_proxy
from tests.support.s3_server import S3Server, running_s3_server

_REPOSITORY = Path(__file__).parent.parent
_BUCKET = "pipeline"


def photograph(seed: int, megabytes: float) -> bytes:
    """A PNG file of about that size: noise, which does not compress."""
    side = math.isqrt(int(megabytes * 1e6 / 3))
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def upload(server: S3Server, num_captions: int, num_images: int, megabytes: float) -> str:
    """Put the photographs and the manifest into a bucket; returns the manifest's URI."""
    server.make_bucket(_BUCKET)
    for index in range(num_captions):
        server.client.put_object(Bucket=_BUCKET, Key=f"photos/{index}.png", Body=photograph(index, megabytes))
    captions = [{"task": "caption", "prompt": None, "image": f"photos/{index}.png"} for index in range(num_captions)]
    images = [
        {"task": "text_to_image", "prompt": f"a red circle {index}", "image": None} for index in range(num_images)
    ]
    schema = pa.schema([("task", pa.string()), ("prompt", pa.string()), ("image", pa.string())])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(captions + images, schema=schema), buffer)
    server.client.put_object(Bucket=_BUCKET, Key="manifest.parquet", Body=buffer.getvalue())
    return f"s3://{_BUCKET}/manifest.parquet"


def run(manifest: str, endpoint: str, server: S3Server, options: argparse.Namespace) -> dict[str, Any]:
    """The summary of a whole run, as the command prints it.

    Raises:
        subprocess.CalledProcessError: The run failed, or a row did.
    """
    overrides = [
        f"understanding.resolution={options.resolution}",
        f"text_to_image.width={options.resolution}",
        f"text_to_image.height={options.resolution}",
        "device=cpu",
    ]
    command = [sys.executable, "-m", "dimoo_batch", "run", manifest, "--output", f"s3://{_BUCKET}/output"]
    command += ["--workers", str(options.workers), *(part for each in overrides for part in ("--set", each))]
    variables = os.environ | server.env() | {"AWS_ENDPOINT_URL": endpoint}
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables, cwd=_REPOSITORY)
    summary: dict[str, Any] = json.loads(ended.stdout)
    return summary


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__.partition("\n")[0])
    parser.add_argument("--captions", type=int, default=24, help="rows that read a photograph")
    parser.add_argument("--images", type=int, default=8, help="rows that make an image")
    parser.add_argument("--megabytes", type=float, default=4.0, help="of a photograph")
    parser.add_argument("--resolution", type=int, default=256, help="what photographs are cropped to, and images' side")
    parser.add_argument("--latency-ms", type=float, default=100.0, help="that every request to the store waits")
    parser.add_argument("--workers", type=int, default=0, help="of Ray; 0: in the command's own process")
    parser.add_argument("--at-least", type=float, default=0.95, help="the share of time that is asked for")
    parser.add_argument("--out", type=Path, help="write the numbers to this file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write the numbers if asked to; 1 if the engine waited too long."""
    options = _options(arguments)
    with running_s3_server() as server:
        manifest = upload(server, options.captions, options.images, options.megabytes)
        with running_fault_proxy(server.endpoint) as proxy:
            proxy.latency_s = options.latency_ms / 1000
            summary = run(manifest, proxy.url, server, options)
            num_requests = len(proxy.requests)
    busy, waited = summary["engine_busy_ratio"], summary["engine_wait_ratio"]
    print(f"{summary['done']} rows in {summary['wall_s']:.1f} s, {num_requests} requests to the store")
    print(f"engine without a row to work on: {waited:.1%}; between its steps: {1 - busy - waited:.1%}")
    print(f"engine busy between its first and last step: {busy:.1%} (asked: {options.at_least:.0%})")
    if options.out is not None:
        settings = {name: value for name, value in vars(options).items() if name != "out"}
        numbers = {"settings": settings, "summary": summary, "num_store_requests": num_requests}
        write_result(options.out, {"benchmark": "pipeline", **environment(torch.device("cpu")), **numbers})
    return 0 if busy >= options.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
