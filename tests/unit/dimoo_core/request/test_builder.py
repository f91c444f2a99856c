"""Token sequences of each task, spelled out."""

import pytest
import torch

from dimoo_core.checkpoint.load import Model
from dimoo_core.errors import RequestError
from dimoo_core.request.builder import image_request, with_newlines
from dimoo_core.request.tokenizer import Tokenizer
from dimoo_core.settings import ImageSettings, TextSettings
from tests.support.engine_run import noise_of

NOISE = noise_of("row")


@pytest.fixture(scope="module")
def spell(tiny_model: Model, tiny_checkpoint: object) -> "Spell":
    return Spell(Tokenizer(tiny_checkpoint), tiny_model)  # type: ignore[arg-type]


class Spell:
    """Sequences as text, VQ codes in square brackets."""

    def __init__(self, tokenizer: Tokenizer, model: Model) -> None:
        self._tokenizer = tokenizer
        self._offset = model.tokens.image_offset

    def __call__(self, ids: torch.Tensor) -> str:
        return "".join(self._one(token_id) for token_id in ids.tolist())

    def _one(self, token_id: int) -> str:
        if token_id >= self._offset:
            return f"[{token_id - self._offset}]"
        return self._tokenizer.decode([token_id], skip_special_tokens=False)


def test_an_image_is_rows_of_masks_between_a_prompt_and_its_end(tiny_model: Model, spell: Spell) -> None:
    settings = ImageSettings(width_px=32, height_px=48, cfg_scale=1.0)
    request = tiny_model.layout.text_to_image("row", "a red boat", settings, NOISE)
    cond, uncond = request.sequences
    row = "<|mdm_mask|><|mdm_mask|><end-of-line>"
    frame = "<system>Generate an image according to the text prompt.</system><user>{}</user><answer><IMAGE>"
    assert spell(cond.around(request.target)) == frame.format("a red boat") + 3 * row + "</IMAGE></answer>"
    assert spell(uncond.around(request.target)) == frame.format("<uncondition>") + 3 * row + "</IMAGE></answer>"
    assert request.num_tokens == len(cond.around(request.target)) + len(uncond.around(request.target))


def test_without_guidance_there_is_one_sequence(tiny_model: Model) -> None:
    settings = ImageSettings(width_px=32, height_px=32, cfg_scale=0.0)
    assert len(tiny_model.layout.text_to_image("row", "a red boat", settings, NOISE).sequences) == 1


def test_input_images_stand_before_the_end_of_the_users_turn(tiny_model: Model, spell: Spell) -> None:
    settings = TextSettings(max_tokens=2, block_length=2)
    images = [torch.tensor([[1, 2], [3, 4]]), torch.tensor([[8191]])]
    request = tiny_model.layout.understanding("row", "What is it?", images, settings, NOISE)
    (each,) = request.sequences
    sequence = spell(each.around(request.target))
    assert sequence.startswith("<system>You are a multimodal model")
    assert sequence.endswith(
        "<user>What is it?"
        "<IMAGE>[1][2]<end-of-line>[3][4]<end-of-line></IMAGE>"
        "<IMAGE>[8191]<end-of-line></IMAGE>"
        "</user><answer><|mdm_mask|><|mdm_mask|></answer>"
    )


def test_a_question_needs_no_image(tiny_model: Model, spell: Spell) -> None:
    settings = TextSettings(max_tokens=1, block_length=1)
    request = tiny_model.layout.understanding("row", "Why?", [], settings, NOISE)
    assert spell(request.sequences[0].prefix).endswith("<user>Why?</user><answer>")


@pytest.mark.parametrize("token", ["<|mdm_mask|>", "<IMAGE>", "</answer>", "<end-of-line>", "<|endoftext|>"])
def test_a_prompt_with_a_token_of_the_layout_is_refused(tiny_model: Model, token: str) -> None:
    with pytest.raises(RequestError) as refusal:
        tiny_model.layout.text_to_image("row", f"a {token} boat", ImageSettings(), NOISE)
    assert repr(token) in str(refusal.value)
    with pytest.raises(RequestError):
        tiny_model.layout.understanding("row", token, [], TextSettings(), NOISE)


def test_each_row_of_codes_is_closed_by_a_newline(tiny_model: Model) -> None:
    newline = tiny_model.tokens.newline
    ids = with_newlines(torch.tensor([[1, 2], [3, 4]]), tiny_model.tokens)
    assert ids.tolist() == [1, 2, newline, 3, 4, newline]


def test_an_image_may_be_partly_known(tiny_model: Model) -> None:
    known = torch.tensor([[tiny_model.tokens.image_offset, tiny_model.tokens.mask]])
    target = with_newlines(known, tiny_model.tokens)
    settings = ImageSettings(width_px=32, height_px=16)
    request = image_request("row", {"cond": torch.tensor([1])}, target, settings, NOISE, tiny_model.tokens)
    assert request.target is target


def test_an_answer_reads_as_text(tiny_model: Model, tiny_checkpoint: object) -> None:
    ids = Tokenizer(tiny_checkpoint).encode("three cats</user>")  # type: ignore[arg-type]
    assert tiny_model.layout.answer_text(ids) == "three cats"
