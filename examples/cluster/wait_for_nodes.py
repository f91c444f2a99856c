"""Wait until a Ray cluster has so many machines: ``wait_for_nodes.py ADDRESS COUNT [SECONDS]``."""

import socket
import sys
import time
from collections.abc import Callable

import ray

_POLL_S = 0.5


def wait_until(is_true: Callable[[], bool], what: str, deadline_s: float) -> None:
    """Look again and again.

    Raises:
        SystemExit: The time is up.
    """
    while not is_true():
        if time.monotonic() > deadline_s:
            sys.exit(f"gave up waiting for {what}")
        time.sleep(_POLL_S)


def answers(address: str) -> bool:
    """Whether something listens there; Ray itself would try a while and then give up."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def num_nodes() -> int:
    """Machines that are alive."""
    return sum(node["Alive"] for node in ray.nodes())


def main(address: str, count: str, seconds: str = "600") -> None:
    """Return as soon as ``count`` machines are there."""
    deadline_s = time.monotonic() + float(seconds)
    wait_until(lambda: answers(address), f"Ray at {address}", deadline_s)
    ray.init(address=address, log_to_driver=False, logging_level="error")
    wait_until(lambda: num_nodes() >= int(count), f"{count} machines at {address}", deadline_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
