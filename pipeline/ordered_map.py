"""Many things done at once and handed back in order, with few of them in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], *, window: int
) -> Iterator[Result]:
    """Results of ``work`` in the order of ``items``; at most ``window`` items are taken ahead of what is handed back.

    ``items`` is read on the caller's thread. What ``work`` raises is raised here, and the rest is given up.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def thread_map(work: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int) -> Iterator[Result]:
    """The same with threads of its own, and two items for each of them ahead."""
    with ThreadPoolExecutor(num_threads) as pool:
        yield from ordered_map(pool, work, items, window=2 * num_threads)
