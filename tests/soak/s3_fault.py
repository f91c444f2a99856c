"""A real S3 server behind a proxy, in a process of its own, that spoils what a seed draws."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.soak.fault import FaultLog, FaultSource
from tests.support.fault_proxy import FaultProxy, Spoil, running_fault_proxy
from tests.support.s3_server import running_s3_server

_RATE = 0.12  # of requests; boto3 repeats one twice before the product does
_STATUS = {"403": (403, "AccessDenied"), "500": (500, "InternalError"), "503": (503, "SlowDown")}
BUCKET = "soak"


class DrawingProxy(FaultProxy):
    """Draws for each request what becomes of it."""

    faults: FaultSource

    def take_fault(self, method: str, path: str) -> Spoil | None:
        kind = self.faults.draw("write" if method in ("PUT", "DELETE", "POST") else "read")
        if kind is None:
            return None
        if kind in _STATUS:
            status, code = _STATUS[kind]
            body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            return Spoil(method, "answer", 1, status=status, body=body)
        if kind == "drop":
            return Spoil(method, "drop", 1)
        if kind == "duplicate":
            return Spoil(method, "duplicate", 1)
        return Spoil(method, "lose_answer" if kind == "lose answer" else "cut_body", 1, num_bytes=3)


@dataclass(frozen=True, slots=True)
class FaultyS3:
    """The root below which runs put their outputs, and the endpoint behind the proxy."""

    root: str
    endpoint: str

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Within the block this process reaches the server itself: what it checks is what is there."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", self.endpoint)
            yield


@contextmanager
def faulty_s3(folder: Path, seed: int) -> Iterator[FaultyS3]:
    """A server of its own; this process and its copies reach it through the proxy."""
    with running_s3_server() as server, pytest.MonkeyPatch.context() as patch:
        server.make_bucket(BUCKET)
        server.client.close()
        ours, theirs = Pipe()
        if (pid := os.fork()) == 0:
            ours.close()
            _serve(server.endpoint, folder, seed, theirs)
        theirs.close()
        try:
            for name, value in server.env().items():
                patch.setenv(name, value)
            patch.setenv("AWS_ENDPOINT_URL", ours.recv())
            ours.close()
            for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
                patch.setenv(name, str(folder / "none"))
            _make_boto3_quick(patch)
            yield FaultyS3(f"s3://{BUCKET}", server.endpoint)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _serve(endpoint: str, folder: Path, seed: int, connection: Connection) -> None:
    DrawingProxy.faults = FaultSource(FaultLog(folder / "faults"), f"proxy:{seed}", rate=_RATE, kill_at=None)
    with running_fault_proxy(endpoint, DrawingProxy) as proxy:
        connection.send(proxy.url)
        while True:
            time.sleep(3600)


def _make_boto3_quick(patch: pytest.MonkeyPatch) -> None:
    """boto3 repeats as often as in a run, but waits for milliseconds."""
    from botocore.retries.standard import ExponentialBackoff

    patch.setattr(ExponentialBackoff, "delay_amount", lambda backoff, context: 0.005)
