"""A Ray cluster of several machines on loopback, of processes that are started and ended here, by their ids."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.command import REPOSITORY, kill, still_alive

_STOP_TIMEOUT_S = 60.0


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Machines:
    """Scripts that each play a machine, and the environment they share: a token, a port, a place for Ray's files."""

    folder: Path
    port: int = field(default_factory=free_port)
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "ignore",
            "HOME": str(self.folder),  # no token of the user's own is found there
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_PORT": str(self.port),
            "RAY_ADDRESS": "",
            "RAY_TMPDIR": str(self.folder / "r"),
            "RAY_prestart_worker_first_driver": "0",  # processes that nothing here would use
        }
        return os.environ | own

    def start(self, *command: str, **more: str) -> subprocess.Popen[bytes]:
        """A process of its own group, in the repository, whose output is in ``log``."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=self.environment | more,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def end(self) -> None:
        """Ask each to end, as a scheduler does; what is left after a while is killed."""
        started: list[psutil.Process] = []
        for process in reversed(self.processes):
            if process.poll() is None:
                started += psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in still_alive(started, timeout_s=5.0):
            kill(child)


@contextmanager
def machines() -> Iterator[Machines]:
    """Machines to start, all of which are gone in the end."""
    with ExitStack() as stack:
        # Ray's sockets need a short path.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ray.", ignore_cleanup_errors=True)))
        found = Machines(folder)
        stack.callback(found.end)
        yield found
