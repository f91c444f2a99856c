"""How many workers a command has, what each of them gets, and the pool that they make; the Ray they run on."""

import logging
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dimoo_core.errors import ConfigError
from jobs.spec.spec import JobSpec
from pipeline.driver.pool import WorkerPool
from pipeline.errors import RunFailed
from pipeline.output.poison_segments import PoisonRecord
from pipeline.protocol.settings import RunSettings

_HOST_AND_PORT = re.compile(r"(?P<host>[^/:]+):(?P<port>\d{1,5})")
_CONNECT_TIMEOUT_S = 10.0
_TOKEN_FIX = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token it was started with"
_MAX_PARENT_BYTES = 30  # a socket's path may have 107: 13 for a folder of ours, 43 for Ray's session, 21 for its name
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
_OBJECT_STORE_BYTES = 80 * 2**20  # Ray's least: nothing large passes through it


def known_address(given: str | None) -> str | None:
    """The cluster to join: the one given, else the one that Ray's own environment variable names, else none."""
    return given or os.environ.get("RAY_ADDRESS") or None


@contextmanager
def ray_cluster(address: str | None, *, num_workers: int) -> Iterator[int]:
    """Connect, and disconnect at the end; yields the number of GPUs.

    Args:
        address: As ``ray.init`` takes it; None for a Ray of this machine's own.
        num_workers: What that Ray has to have room for.
    """
    # Without GPUs an actor keeps CUDA_VISIBLE_DEVICES as it is: the behaviour Ray is moving to, chosen to silence it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        require_token()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own deprecations at import
        import ray
    if ray.is_initialized():
        raise ConfigError("this process is connected to Ray already: a run makes its own connection")
    parent = short_temporary_folder() if address is None else Path(tempfile.gettempdir())
    # A folder that only this user may enter, for what a Ray of this machine's own writes.
    with tempfile.TemporaryDirectory(prefix="ray-", dir=parent, ignore_cleanup_errors=True) as folder:
        try:
            # Ray puts the folder in which it is started before all else on its workers' path: any file of any name.
            with _handler_kept(signal.SIGTERM), chdir(folder):
                _init(address, num_workers, Path(folder))
            yield int(ray.cluster_resources().get("GPU", 0))
        finally:
            ray.shutdown()


def short_temporary_folder() -> Path:
    """Where temporary files go, if the path of a socket of Ray's below it is not too long; else one where it is not."""
    fix = f"set RAY_TMPDIR to a folder whose path has at most {_MAX_PARENT_BYTES} bytes and that this user may write"
    if given := os.environ.get("RAY_TMPDIR"):
        if len(os.fsencode(given)) > _MAX_PARENT_BYTES or not os.access(given, os.W_OK):
            raise ConfigError(f"Ray cannot work in RAY_TMPDIR, {given}: {fix}")
        return Path(given)
    for folder in (tempfile.gettempdir(), *_SHORT_FOLDERS):
        if len(os.fsencode(folder)) <= _MAX_PARENT_BYTES and os.access(folder, os.W_OK):
            return Path(folder)
    raise ConfigError(f"no folder for Ray among {tempfile.gettempdir()}, {', '.join(_SHORT_FOLDERS)}: {fix}")


def cores_each(num_workers: int, gpus_each: float) -> float:
    """Most whole cores that each of so many workers finds on its machine, at least 1.

    A share of all cores of the cluster would do on one machine; of several it may fit on none of them.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for cores in range(int(max((machine.get("CPU", 0.0) for machine in machines), default=0)), 1, -1):
        if sum(_num_fitting(machine, cores, gpus_each) for machine in machines) >= num_workers:
            return float(cores)
    return 1.0


def _num_fitting(machine: Mapping[str, float], cores: int, gpus_each: float) -> int:
    by_cores = int(machine.get("CPU", 0.0)) // cores
    return min(by_cores, int(machine.get("GPU", 0.0) / gpus_each)) if gpus_each else by_cores


@contextmanager
def _handler_kept(number: signal.Signals) -> Iterator[None]:
    """Put the signal's handler back in the end: ``ray.init`` sets one of its own, which exits without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(number)
    try:
        yield
    except SystemExit:  # what Ray's handler raises, should the signal come meanwhile
        signal.signal(number, handler)
        signal.raise_signal(number)
        raise
    finally:
        signal.signal(number, handler)


def _init(address: str | None, num_workers: int, folder: Path) -> None:
    import ray

    if address is None:
        _start_own(num_workers, folder)
        return
    if match := _HOST_AND_PORT.fullmatch(address):
        _check_listens(match["host"], int(match["port"]))
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except ray.exceptions.AuthenticationError as error:
        raise ConfigError(f"ray.address: no token for the Ray cluster at {address!r}: {_TOKEN_FIX}") from error
    except (ConnectionError, ValueError) as error:
        reason = " ".join(str(error).split())
        token = f"; if it listens there and has a token: {_TOKEN_FIX}" if match else ""
        raise ConfigError(f"ray.address: no Ray cluster at {address!r}: {reason}{token}") from error


def _start_own(num_workers: int, folder: Path) -> None:
    """A Ray of this machine's own, which writes to ``folder``."""
    import ray

    try:
        ray.init(
            address="local",  # otherwise one that happens to run here would be joined
            num_cpus=max(os.cpu_count() or 1, num_workers),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="error",
            _temp_dir=str(folder),
        )
    except Exception as error:  # Ray raises nothing narrower
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunFailed(f"Ray did not start on this machine: {reason}") from error


def _check_listens(host: str, port: int) -> None:
    """Ray itself would try for minutes."""
    try:
        socket.create_connection((host, port), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"ray.address: no Ray cluster at '{host}:{port}': {reason}") from error


def require_token() -> None:
    """Make a Ray that is started here ask for a token, unless the environment sets otherwise.

    Ray reads the mode when it is imported. It would make the token by itself, readable by every user of the machine.
    """
    if os.environ.setdefault("RAY_AUTH_MODE", "token") != "token":
        return
    if any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        return
    token = secrets.token_hex(32)
    try:
        _keep_token(Path.home() / ".ray" / "auth_token", token)
    except (OSError, RuntimeError):  # no home, or none to write to: the token is this run's alone
        os.environ["RAY_AUTH_TOKEN"] = token


def _keep_token(path: Path, token: str) -> None:
    """Write the token for later connections, unless there is one that this user can read."""
    with suppress(FileNotFoundError):
        path.read_bytes()
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".auth_token-") as file:  # with mode 600
        file.write(token.encode())
        file.flush()
        with suppress(FileExistsError):  # another run was quicker
            path.hardlink_to(file.name)


log = logging.getLogger("dimoo_batch.jobs")

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA's driver, AMD's, and Windows' own Linux


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers there are and what each has."""

    count: int
    device: str
    num_cpus: float
    num_gpus: float


def idle_workers(spec: JobSpec, recorded_device: str) -> Workers:
    """Those of a start that has nothing to do: Ray is neither asked nor started, the device is that of the run."""
    return Workers(spec.workers or 0, spec.device if spec.device != "auto" else recorded_device, 0, 0)


def local_workers(spec: JobSpec) -> Workers | None:
    """Those that ``find_workers`` will find on this machine alone, before Ray is started; None if a cluster is joined.

    What each of them has is not known yet.
    """
    count, device = spec.workers, spec.device
    if count != 0 and known_address(spec.ray.address) is not None:
        return None
    count = _local_gpus() if count is None else count
    return Workers(count, device if device != "auto" else ("cuda" if _local_gpus() else "cpu"), 0, 0)


def find_workers(spec: JobSpec, stack: ExitStack) -> Workers:
    """Decide how many workers there are, starting or joining Ray, until the end of ``stack``, if there is any."""
    count, address = spec.workers, known_address(spec.ray.address)
    if count is None and address is None:
        count = _local_gpus()
    if count == 0:
        device = spec.device if spec.device != "auto" else ("cuda" if _local_gpus() else "cpu")
        return Workers(0, device, 0, 0)
    many = f"{count or 1} workers" if (count or 1) > 1 else "1 worker"
    log.info(f"starting Ray with {many}" if address is None else f"connecting to Ray at {address}")
    num_gpus = stack.enter_context(ray_cluster(address, num_workers=count or 1))
    count = count or max(1, num_gpus)
    device = spec.device if spec.device != "auto" else ("cuda" if num_gpus else "cpu")
    gpus_each = spec.ray.gpus_per_worker if spec.ray.gpus_per_worker is not None else float(device.startswith("cuda"))
    if gpus_each * count > num_gpus:
        raise ConfigError(f"{count} workers with {gpus_each:g} GPU each were asked for, Ray has {num_gpus} GPUs")
    return Workers(count, device, spec.ray.cpus_per_worker or cores_each(count, gpus_each), gpus_each)


def worker_pool(
    settings: RunSettings, workers: Workers, record: PoisonRecord, *, has_poison_segments: bool
) -> WorkerPool:
    """The pool of these workers, not yet started."""
    if workers.count == 0 and has_poison_segments:  # a row that kills its worker must not take the run with it again
        from pipeline.driver.process_pool import ChildPool

        return ChildPool(settings)
    if workers.count == 0:
        from pipeline.driver.local_pool import LocalPool

        return LocalPool(settings, record)
    from pipeline.driver.ray_pool import RayPool

    return RayPool(settings, num_workers=workers.count, num_cpus=workers.num_cpus, num_gpus=workers.num_gpus)


def _local_gpus() -> int:
    if sys.platform == "linux" and not any(Path(device).exists() for device in _GPU_DEVICES):
        return 0  # known without torch, which is 200 MB that a driver of workers has no other use for
    import torch

    return torch.cuda.device_count()
