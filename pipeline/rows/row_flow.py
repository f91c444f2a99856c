"""A row on its way through the engine: its requests, their results, more requests, until the row is complete.

What a task asks of the engine is a generator, ``Rounds``; those there are, are in ``rounds``, most with one round of
one request. The engine batches requests of all rows step by step, so a round waits for its own requests only.
"""

from collections.abc import Generator
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from dimoo_core.errors import RequestError
from dimoo_core.request.request import ChoiceResult, ImageResult, Request, RequestFailed, Result, TextResult
from manifests.row.parse import Row
from pipeline.rows.inpaint import KeptPixels

Finished = ImageResult | TextResult | ChoiceResult
"""What the engine gives for a request that it could run."""


@dataclass(frozen=True, slots=True, eq=False)
class MadeImage:
    """An image that is still codes, (rows, columns), what it was made from, and what stays of the row's input."""

    vq_codes: Tensor
    prompt: str
    seed: int
    kept: KeptPixels | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MadeImages:
    """The images of a row, in its order; ``chosen`` is which of them is the row's own."""

    images: tuple[MadeImage, ...]
    chosen: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FittedImage:
    """An input image that is still pixels, and of which the codes are asked."""

    image: Image.Image


@dataclass(frozen=True, slots=True, eq=False)
class WeighedAnswer:
    """An answer chosen from given ones: how probable it is, and each of them where the row has them listed."""

    text: str
    score: float
    choices: tuple[tuple[str, float], ...] | None = None


RowResult = MadeImages | FittedImage | TextResult | WeighedAnswer
"""What a row gives in the end, before it is decoded and stored."""

Rounds = Generator[tuple[Request, ...], tuple[Finished, ...], RowResult]
"""Yields the requests of a round and gets their results in the same order; returns the row's result.

A row without any round never enters the engine. Requests of a row have ids of their own, that begin with its number.
"""


class RowFlow:
    """One row between its preparation and its result.

    The first round is laid out at once, by the thread that prepares the row; from then on the engine's thread owns it.

    Raises:
        RequestError: The first round cannot be laid out.
    """

    def __init__(self, row: Row, rounds: Rounds) -> None:
        self.row = row
        self.result: RowResult | None = None
        self.error: Exception | None = None
        self.has_results = False  # of any of its requests
        self._rounds = rounds
        self._asked: tuple[Request, ...] = ()
        self._got: dict[str, Finished] = {}
        self.first_requests = self._next_round(None)

    @property
    def is_over(self) -> bool:
        """Whether there is a result, or an error; results of requests that are still in the engine no longer count."""
        return self.result is not None or self.error is not None

    def take(self, result: Result) -> tuple[Request, ...]:
        """Receive the result of one request; returns the requests of the next round if that was a round's last.

        A request that failed ends the row with its error.
        """
        if self.is_over:
            return ()
        if isinstance(result, RequestFailed):
            self.error = result.error
            self._rounds.close()
            return ()
        self.has_results = True
        self._got[result.request_id] = result
        if len(self._got) < len(self._asked):
            return ()
        return self._next_round(tuple(self._got.pop(request.request_id) for request in self._asked))

    def _next_round(self, results: tuple[Finished, ...] | None) -> tuple[Request, ...]:
        try:
            self._asked = next(self._rounds) if results is None else self._rounds.send(results)
        except StopIteration as stop:
            self.result, self._asked = stop.value, ()
        except RequestError as error:
            if results is None:
                raise
            self.error, self._asked = error, ()
        return self._asked
