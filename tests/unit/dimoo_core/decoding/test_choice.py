"""How probable given answers are, on made-up logits and through the engine."""

import math

import pytest
import torch
from torch import Tensor

from dimoo_core.checkpoint.load import Model
from dimoo_core.decoding.choice import ChoiceDecoding
from dimoo_core.engine.engine import Engine
from dimoo_core.errors import ConfigError, RequestError
from dimoo_core.request.builder import answer_request
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import ChoiceResult, Result
from dimoo_core.settings import ChoiceSettings
from tests.support.engine_run import CPU, answer_of, image_of, noise_of, run_all
from tests.unit.dimoo_core.decoding.test_text import END, END_OF_TEXT, MASK, TOKENS

CHOICES = ((1,), (1, 2), (3,))


def decoding_of(choices: tuple[tuple[int, ...], ...], length: int, *, cfg_scale: float = 0.0) -> ChoiceDecoding:
    settings = ChoiceSettings(max_tokens=length, cfg_scale=cfg_scale)
    target = torch.full((length,), MASK)
    request = answer_request(
        "row", torch.tensor([1, 2]), target, settings, SeededNoise(0, CPU), TOKENS, choices=choices
    )
    return ChoiceDecoding(request, TOKENS, CPU)


def logits_of(*positions: dict[int, float]) -> Tensor:
    """Logits whose softmax has these probabilities, the rest shared by the other ids."""
    rows = []
    for position in positions:
        rest = (1 - sum(position.values())) / (28 - len(position))
        rows.append([math.log(position.get(column, rest)) for column in range(28)])
    return torch.tensor(rows)


def test_an_answer_is_as_probable_as_its_tokens_and_its_end_together() -> None:
    decoding = decoding_of(CHOICES, 4)
    assert decoding.reads().tolist() == [0, 1, 2]
    decoding.advance([logits_of({1: 0.5, 3: 0.2}, {2: 0.6, END: 0.1, END_OF_TEXT: 0.2}, {END: 0.5, END_OF_TEXT: 0.25})])
    joint = [0.5 * 0.3, 0.5 * 0.6 * 0.75, 0.2 * 0.3]
    assert decoding.probabilities() == pytest.approx([each / sum(joint) for each in joint])
    assert decoding.is_done


def test_an_answer_that_fills_its_place_needs_no_end() -> None:
    """One mask and one token a choice: how the reference's benchmark wrapper asks."""
    decoding = decoding_of(((1,), (3,)), 1)
    assert decoding.reads().tolist() == [0]
    decoding.advance([logits_of({1: 0.6, 3: 0.2})])
    assert decoding.probabilities() == pytest.approx((0.75, 0.25))


def test_guidance_moves_probabilities_away_from_those_without_a_prompt() -> None:
    decoding = decoding_of(((1,), (3,)), 1, cfg_scale=1.0)
    assert len(decoding.request.sequences) == 2
    decoding.advance([logits_of({1: 0.6, 3: 0.2}), logits_of({1: 0.4, 3: 0.4})])
    assert decoding.probabilities() == pytest.approx((0.9, 0.1))


def request_of(model: Model, name: str, choices: tuple[str, ...], settings: ChoiceSettings) -> object:
    codes_HW = torch.randint(8192, (2, 3), generator=torch.Generator().manual_seed(1))
    return model.layout.choices(name, "Is it red?", [codes_HW], choices, settings, noise_of(name))


def probabilities(result: Result) -> tuple[float, ...]:
    assert isinstance(result, ChoiceResult)
    assert result.num_steps == 1
    return result.probabilities


def test_probabilities_do_not_depend_on_the_batch(tiny_model: Model) -> None:
    asked = request_of(tiny_model, "asked", ("yes", "no", "it is green"), ChoiceSettings(max_tokens=16))
    alone = run_all(Engine(tiny_model.transformer, tiny_model.tokens), [asked])  # type: ignore[list-item]
    others = [image_of(tiny_model, "image"), asked, answer_of(tiny_model, "answer")]
    among = run_all(Engine(tiny_model.transformer, tiny_model.tokens), others)  # type: ignore[arg-type]
    assert probabilities(among["asked"]) == probabilities(alone["asked"])
    assert sum(probabilities(alone["asked"])) == pytest.approx(1)


def test_what_is_asked_is_what_the_first_step_of_an_answer_sees(tiny_model: Model) -> None:
    asked = request_of(tiny_model, "asked", ("yes", "no"), ChoiceSettings(max_tokens=12))
    answer = tiny_model.layout.understanding(
        "asked",
        "Is it red?",
        [torch.randint(8192, (2, 3), generator=torch.Generator().manual_seed(1))],
        answer_of(tiny_model, "x").settings,
        noise_of("asked"),  # type: ignore[arg-type]
    )
    (asked_stream,), (answer_stream,) = asked.sequences, answer.sequences  # type: ignore[attr-defined]
    assert torch.equal(asked_stream.around(asked.target), answer_stream.around(answer.target))  # type: ignore[attr-defined]


def test_without_a_length_there_are_as_many_masks_as_the_longest_choice_has_tokens(tiny_model: Model) -> None:
    request = request_of(tiny_model, "asked", ("yes", "it is green"), ChoiceSettings())
    assert len(request.target) == max(len(ids) for ids in request.choices)  # type: ignore[attr-defined]


def test_a_choice_that_is_longer_than_its_place_is_refused(tiny_model: Model) -> None:
    with pytest.raises(RequestError, match=r"choice 'it is green' has \d+ tokens, max_tokens is 1: give max_tokens"):
        request_of(tiny_model, "asked", ("y", "it is green"), ChoiceSettings(max_tokens=1))


def test_a_choice_with_a_token_of_the_layout_is_refused(tiny_model: Model) -> None:
    with pytest.raises(RequestError, match="must not contain '<IMAGE>'"):
        request_of(tiny_model, "asked", ("yes", "<IMAGE>"), ChoiceSettings())


@pytest.mark.parametrize("bad", [{"max_tokens": 0}, {"cfg_scale": -1.0}, {"cfg_scale": math.inf}])
def test_settings_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(bad))} must be"):
        ChoiceSettings(**bad)  # type: ignore[arg-type]
