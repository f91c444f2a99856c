"""Work done by many threads, handed back in order, and never far ahead."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.ordered_map import ordered_map


def test_results_come_in_the_order_of_the_items_and_few_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(4) as pool:
        results = ordered_map(pool, lambda item: item * item, items(), window=5)
        for number, result in enumerate(results):
            assert result == number * number
            assert len(taken) <= number + 5
    assert len(taken) == 50


def test_what_one_item_raises_ends_the_rest() -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        return 1 // (item - 1)

    with ThreadPoolExecutor(1) as pool:
        results = ordered_map(pool, work, range(100), window=3)
        assert next(results) == -1
        with pytest.raises(ZeroDivisionError):
            next(results)
    assert len(started) <= 6
