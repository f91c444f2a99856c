"""A row on its way through the engine: its requests, their results, more requests, until the row is complete.

What a task asks of the engine is a generator, ``Rounds``; most have one round of one request. The engine batches
requests of all rows step by step, so a round waits for its own requests only.
"""

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from dimoo_core.errors import ENDS_THE_PROCESS
from dimoo_core.request.request import ChoiceResult, ImageResult, Request, RequestFailed, Result, TextResult
from dimoo_core.request.templates import NO, YES
from manifests.row.parse import Row
from pipeline.rows.inpaint import KeptPixels


def row_seed(row: Row, job_seed: int) -> int:
    """The row's own seed, else 63 bits that depend on the job's seed and the row's id, not on its place."""
    if row.seed is not None:
        return row.seed
    digest = hashlib.blake2b(f"{job_seed}:{row.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def nth_seed(seed: int, number: int) -> int:
    """The seed of a row's ``number``-th image: that of the row for the first, 63 bits drawn from it for the others."""
    if number == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}:image {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


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

    The first round is built at once, by the thread that prepares the row; from then on the engine's thread owns it.

    Raises:
        RequestError: The first round cannot be built.
    """

    def __init__(self, row: Row, rounds: Rounds) -> None:
        self.row = row
        self.result: RowResult | None = None
        self.error: BaseException | None = None
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
            self.fail(result.error)
            return ()
        self.has_results = True
        self._got[result.request_id] = result
        if len(self._got) < len(self._asked):
            return ()
        return self._next_round(tuple(self._got.pop(request.request_id) for request in self._asked))

    def fail(self, error: BaseException) -> None:
        """End the row with an error."""
        self.error = error
        self._rounds.close()

    def _next_round(self, results: tuple[Finished, ...] | None) -> tuple[Request, ...]:
        try:
            self._asked = next(self._rounds) if results is None else self._rounds.send(results)
        except StopIteration as stop:
            self.result, self._asked = stop.value, ()
        except ENDS_THE_PROCESS:
            raise
        except BaseException as error:
            if results is None:
                raise
            self.error, self._asked = error, ()
        return self._asked


def request_name(row: Row, number: int) -> str:
    """The id of a row's ``number``-th request."""
    return f"{row.index}.{number}" if number else str(row.index)


def answer(request: Request) -> Rounds:
    """One answer."""
    (result,) = yield (request,)
    assert isinstance(result, TextResult)
    return result


def codec_alone(result: MadeImages | FittedImage) -> Rounds:
    """Nothing of the transformer: the result is the codec's to finish."""
    yield from ()
    return result


def choice(row: Row, request: Request) -> Rounds:
    """The most probable of the row's choices; of equals the first."""
    (result,) = yield (request,)
    assert isinstance(result, ChoiceResult)
    weighed = tuple(zip(row.choices, result.probabilities, strict=True))
    text, score = max(weighed, key=lambda pair: pair[1])
    return WeighedAnswer(text, score, weighed)


def match(request: Request) -> Rounds:
    """Whether an image is what a prompt wants; ``request`` weighs the answers ``YES`` and ``NO``."""
    (result,) = yield (request,)
    score = _probability_of_yes(result)
    return WeighedAnswer(YES[0] if score >= 0.5 else NO[0], score)


def best_of(row: Row, drawn: Rounds, ask: Callable[[str, Tensor], Request]) -> Rounds:
    """Samples of a row, each scored by the model itself; the first of the best is the row's own.

    Args:
        ask: Lays out the request of a name that weighs ``YES`` and ``NO`` about an image.
    """
    made = yield from drawn
    assert isinstance(made, MadeImages)
    first = len(made.images)
    asked = (ask(request_name(row, first + number), image.vq_codes) for number, image in enumerate(made.images))
    results = yield tuple(asked)
    scores = [_probability_of_yes(result) for result in results]
    scored = tuple(replace(image, score=score) for image, score in zip(made.images, scores, strict=True))
    best = scores.index(max(scores))
    return MadeImages(scored, best) if row.series.keeps_all else MadeImages((scored[best],))


def samples(row: Row, seed: int, draw: Callable[[str, int], Request], kept: KeptPixels | None = None) -> Rounds:
    """One prompt, drawn from as many seeds as the row wants samples; the first is the row's own.

    Args:
        draw: Lays out the request of a name and a seed.
        kept: What stays of the row's input image.
    """
    seeds = [nth_seed(seed, number) for number in range(row.series.num_samples)]
    results = yield tuple(draw(request_name(row, number), each) for number, each in enumerate(seeds))
    return MadeImages(
        tuple(MadeImage(_codes(result), row.prompt, each, kept) for result, each in zip(results, seeds, strict=True))
    )


def views(row: Row, seed: int, draw: Callable[[str, int, str], Request]) -> Rounds:
    """Several prompts side by side, each with a seed of its own; ``draw`` is given name, seed and prompt."""
    prompts = row.series.prompts
    seeds = [nth_seed(seed, number) for number in range(len(prompts))]
    places = enumerate(zip(seeds, prompts, strict=True))
    results = yield tuple(draw(request_name(row, number), each, prompt) for number, (each, prompt) in places)
    made = zip(results, prompts, seeds, strict=True)
    return MadeImages(tuple(MadeImage(_codes(result), prompt, each) for result, prompt, each in made))


def turns(row: Row, seed: int, codes_HW: Tensor, draw: Callable[[str, int, str, Tensor], Request]) -> Rounds:
    """Prompts one after the other, each about the image that the one before gave; the last one is the row's.

    An image goes into the next turn as its codes, without a way through pixels.

    Args:
        seed: Its seed; that of the first turn.
        codes_HW: The input image.
        draw: Lays out the request of a name, a seed, a prompt and an image.
    """
    made: list[MadeImage] = []
    _lay_out_all(row, seed, codes_HW, draw)
    for number, prompt in enumerate(row.series.prompts):
        each = nth_seed(seed, number)
        (result,) = yield (draw(request_name(row, number), each, prompt, codes_HW),)
        codes_HW = _codes(result)
        made.append(MadeImage(codes_HW, prompt, each))
    kept: Sequence[MadeImage] = made if row.series.keeps_all else made[-1:]
    return MadeImages(tuple(kept), chosen=len(kept) - 1)


def _lay_out_all(row: Row, seed: int, codes_HW: Tensor, draw: Callable[[str, int, str, Tensor], Request]) -> None:
    """Find a wrong prompt of a later turn while the row is being prepared, and not when earlier turns were run."""
    for prompt in row.series.prompts[1:]:
        draw(str(row.index), seed, prompt, codes_HW)


def _codes(result: object) -> Tensor:
    assert isinstance(result, ImageResult)
    return result.vq_codes


def _probability_of_yes(result: object) -> float:
    assert isinstance(result, ChoiceResult)
    return min(1.0, sum(result.probabilities[: len(YES)]))
