"""What tasks ask of the engine, round by round: one generator for each way of it."""

from collections.abc import Callable, Sequence

from torch import Tensor

from dimoo_core.request import ImageResult, Request, TextResult
from manifests.row import Row
from pipeline.painting import KeptPixels
from pipeline.row_flow import FittedImage, MadeImage, MadeImages, Rounds
from pipeline.row_seed import nth_seed


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
