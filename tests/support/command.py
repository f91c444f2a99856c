"""The command line as a process of its own, and waiting for what it does."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 240.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON on standard output, which must be all there is."""
        assert len(self.stdout.splitlines()) == 1, self.stdout
        summary = json.loads(self.stdout)
        assert isinstance(summary, dict)
        return summary


class RunningCommand:
    """A ``dimoo-batch run``, or another command, on its way."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self.process = process
        self.folder = stdout.parent  # where it works, Ray's logs included
        self.started: set[psutil.Process] = set()  # by the command, as far as anybody has looked
        self._stdout = stdout
        self._stderr = stderr

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self) -> Ended:
        self.process.wait(TIMEOUT_S)
        return Ended(self.process.returncode, self._stdout.read_text(), self._stderr.read_text())

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition while the command runs.

        Raises:
            AssertionError: The command has ended, or the time is up, before the condition was met.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, f"ended before {what}: {self._stderr.read_text()}"
            assert time.monotonic() < deadline, f"no {what} in {TIMEOUT_S} s: {self._stderr.read_text()}"
            time.sleep(_POLL_S)

    def descendants(self) -> list[psutil.Process]:
        """Processes that the command has started, and theirs."""
        found = _descendants(self.pid)
        self.started.update(found)
        return found

    def workers(self) -> list[psutil.Process]:
        """Ray's processes that run a worker of this command.

        What a worker starts, such as its image decoder, has the worker's name until it begins its own program.
        """
        named = {child for child in self.descendants() if "ray::WorkerActor" in " ".join(_command_line(child))}
        started_by_workers = {grandchild for worker in named for grandchild in _descendants(worker.pid)}
        return sorted(named - started_by_workers, key=lambda worker: worker.pid)

    def signal(self, number: int) -> None:
        """Send a signal to the command alone."""
        os.kill(self.pid, number)

    def interrupt_from_keyboard(self) -> None:
        """Send what Ctrl-C sends: SIGINT to the command and to everything it has started in its process group."""
        os.killpg(self.pid, signal.SIGINT)


@contextmanager
def running_command(
    manifest: object, output: object, spec: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Iterator[RunningCommand]:
    """Start a run with a spec and more environment; what is left of it in the end is killed, by process id."""
    with tempfile.TemporaryDirectory(prefix="spec.") as name:
        (Path(name) / "spec.yaml").write_text(json.dumps(spec))
        words = ["run", str(manifest), "--output", str(output), "--spec", f"{name}/spec.yaml"]
        with running_words(words, environment) as running:
            yield running


@contextmanager
def running_words(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[RunningCommand]:
    """Start the command line with these words; what is left of it in the end is killed, by process id."""
    with tempfile.TemporaryDirectory(prefix="run.", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        own = {"RAY_TMPDIR": name, "PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": ""}
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "dimoo_batch", *words],
                cwd=folder,
                env=os.environ | own | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        running = RunningCommand(process, folder / "stdout", folder / "stderr")
        try:
            yield running
        finally:
            running.descendants()
            process.kill()
            process.wait()
            for child in running.started:
                kill(child)


def run_command(
    manifest: object, output: object, spec: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Ended:
    """Run a job to its end."""
    with running_command(manifest, output, spec, environment) as running:
        return running.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(process: psutil.Process) -> None:
    """SIGKILL, to this very process: psutil makes sure that the id was not taken over by another."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def still_alive(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that have not ended by themselves when the time is up; zombies have ended."""
    deadline = time.monotonic() + timeout_s
    while (alive := [each for each in processes if _is_alive(each)]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
