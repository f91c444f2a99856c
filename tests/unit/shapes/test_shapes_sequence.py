"""Sequences that the transformer is trained on: what of an answer counts, and what of it is masked."""

from collections import Counter
from random import Random

import pytest

from dimoo_core.checkpoint.load import Model, load_model
from dimoo_core.checkpoint.locate import BUILTIN, find_checkpoint
from shapes.sequence import VERDICT_ALONE_RATIO, VERDICT_WEIGHT, SequenceBuilder, TrainingSequence, masked
from shapes.task import sample

NUM_DRAWN = 400


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(find_checkpoint(BUILTIN).directory)


def sequence_of(model: Model, task: str, kind: str) -> TrainingSequence:
    builder = SequenceBuilder(model.layout._tokenizer, model.tokens)
    return builder.build(sample(task, 1, "train", kind=kind), Random(0))


def masked_places(sequence: TrainingSequence, mask_id: int) -> Counter[tuple[int, ...]]:
    rng = Random(0)
    drawn = (masked(sequence, mask_id, rng) for _ in range(NUM_DRAWN))
    return Counter(tuple(each.view.read_R.tolist()) for each in drawn)


@pytest.mark.parametrize(("kind", "verdict"), [("match", "yes"), ("count", "one"), ("more", "the second")])
def test_a_verdict_counts_more_than_what_it_rests_on(model: Model, kind: str, verdict: str) -> None:
    builder = SequenceBuilder(model.layout._tokenizer, model.tokens)
    examples = (sample("questions", seed, "train", kind=kind) for seed in range(100))
    example = next(each for each in examples if each.answer is not None and each.answer.startswith(f"{verdict}, "))
    sequence = builder.build(example, Random(0))
    ids = sequence.ids_T[sequence.predicted_N[: sequence.num_verdict]].tolist()
    assert model.layout.answer_text(tuple(ids)).strip() == verdict
    assert sequence.weight_N[: sequence.num_verdict].tolist() == [VERDICT_WEIGHT] * sequence.num_verdict
    assert sequence.weight_N[sequence.num_verdict] == 1


def test_now_and_then_a_verdict_alone_is_masked(model: Model) -> None:
    sequence = sequence_of(model, "questions", "match")
    alone = tuple(sequence.predicted_N[: sequence.num_verdict].tolist())
    share = masked_places(sequence, model.tokens.mask)[alone] / NUM_DRAWN
    assert VERDICT_ALONE_RATIO - 0.07 < share < VERDICT_ALONE_RATIO + 0.07


def test_a_caption_has_no_verdict(model: Model) -> None:
    sequence = sequence_of(model, "captioning", "detailed")
    assert sequence.num_verdict == 0
    assert sequence.weight_N[0] == 1
