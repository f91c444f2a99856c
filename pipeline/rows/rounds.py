"""What tasks ask of the engine, round by round: one generator for each way of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from dimoo_core.request.request import ChoiceResult, ImageResult, Request, TextResult
from dimoo_core.request.templates import NO, YES
from manifests.row.parse import Row
from pipeline.rows.inpaint import KeptPixels
from pipeline.rows.row_flow import FittedImage, MadeImage, MadeImages, Rounds, WeighedAnswer
from pipeline.rows.row_seed import nth_seed


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
        row: Which row.
        drawn: Its samples.
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
        row: Which row.
        seed: Its seed.
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
        row: Which row.
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
