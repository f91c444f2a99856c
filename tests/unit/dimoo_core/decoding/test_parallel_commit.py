"""Steps that decide more than the schedule says, because the model is sure."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from dimoo_core.checkpoint.load import Model
from dimoo_core.decoding.base import StepTrace
from dimoo_core.decoding.image import ImageDecoding
from dimoo_core.decoding.sampling import cosine_keep_counts, left_counts
from dimoo_core.errors import ConfigError
from dimoo_core.settings import ImageSettings, ParallelCommit, StepCacheConfig, TargetCacheConfig, TextSettings
from tests.support.engine_run import answer_of, image_of, traces_of

TEXT = TextSettings(max_tokens=24, block_length=6, num_steps=12)
IMAGE = ImageSettings(width_px=96, height_px=64, num_steps=12, cfg_scale=3.0)
NEVER = ParallelCommit(bound=1.0)
ALWAYS = [ParallelCommit(bound=1e-30), ParallelCommit(rule="entropy", bound=1e9)]
CACHES = [None, TargetCacheConfig(refresh_share=0.25, lookahead=2.0)]


def commits_of(model: Model, settings: ImageSettings | TextSettings) -> list[tuple[int, list[int], list[int]]]:
    """Step, positions and ids of everything that is decided."""
    if isinstance(settings, ImageSettings):
        request = image_of(model, "a", settings=settings)
    else:
        request = answer_of(model, "a", settings=settings)
    return [
        (trace.step, trace.committed.tolist(), trace.sampled_ids[torch.isin(trace.read, trace.committed)].tolist())
        for trace in traces_of(model, request)
    ]


def sureness(
    monkeypatch: pytest.MonkeyPatch, model: Model, settings: ImageSettings
) -> tuple[list[StepTrace], list[torch.Tensor]]:
    """Each step, and how probable what it sampled is with guidance and without it, whichever is less."""
    without_guidance: list[torch.Tensor] = []
    advance = ImageDecoding.advance

    def watched(self: ImageDecoding, logits: Sequence[torch.Tensor | None]) -> StepTrace:
        assert logits[0] is not None
        without_guidance.append(logits[0].clone())
        return advance(self, logits)

    with monkeypatch.context() as patch:
        patch.setattr(ImageDecoding, "advance", watched)
        traces = traces_of(model, image_of(model, "a", settings=settings))
    scale, probabilities = max(1.0, settings.temperature), []
    for trace, cond_MV in zip(traces, without_guidance, strict=True):
        codes = trace.sampled_ids - model.tokens.image_offset
        both = [
            torch.softmax(logits / scale, -1)[torch.arange(len(codes)), codes] for logits in (cond_MV, trace.logits)
        ]
        probabilities.append(torch.minimum(*both))
    return traces, probabilities


def test_a_bound_that_no_word_meets_commits_the_share_of_the_schedule(tiny_model: Model) -> None:
    assert commits_of(tiny_model, replace(TEXT, commit=NEVER)) == commits_of(tiny_model, TEXT)


@pytest.mark.parametrize("always", ALWAYS, ids=lambda commit: commit.rule)
def test_a_bound_that_every_word_meets_decides_a_block_a_step(tiny_model: Model, always: ParallelCommit) -> None:
    commits = commits_of(tiny_model, replace(TEXT, commit=always))
    assert [len(positions) for _, positions, _ in commits] == [6] * 4
    assert [step for step, _, _ in commits] == [0, 3, 6, 9]


@pytest.mark.parametrize("num_steps", [12, 40], ids=["fewer steps than tokens", "more steps than tokens"])
@pytest.mark.parametrize("cache", CACHES, ids=["no cache", "target cache"])
@pytest.mark.parametrize("never", [NEVER, ParallelCommit(rule="entropy", bound=0.0)], ids=lambda commit: commit.rule)
def test_a_bound_that_no_code_meets_changes_nothing_of_an_image(
    tiny_model: Model, never: ParallelCommit, cache: TargetCacheConfig | None, num_steps: int
) -> None:
    plain = replace(IMAGE, step_cache=cache, num_steps=num_steps)
    assert commits_of(tiny_model, replace(plain, commit=never)) == commits_of(tiny_model, plain)


@pytest.mark.parametrize("always", ALWAYS, ids=lambda commit: commit.rule)
def test_an_image_whose_every_code_is_sure_takes_one_step(tiny_model: Model, always: ParallelCommit) -> None:
    ((step, positions, _),) = commits_of(tiny_model, replace(IMAGE, commit=always))
    assert (step, len(positions)) == (0, 24)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("cache", CACHES, ids=["no cache", "target cache"])
def test_what_is_sure_is_decided_and_the_schedule_continues_from_what_is_left(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch, cache: TargetCacheConfig | None, temperature: float
) -> None:
    """The bound is such that a third of the codes are sure."""
    plain = replace(IMAGE, step_cache=cache, temperature=temperature)
    bound = float(torch.cat(sureness(monkeypatch, tiny_model, plain)[1]).quantile(2 / 3))
    traces, probabilities = sureness(monkeypatch, tiny_model, replace(plain, commit=ParallelCommit(bound=bound)))
    left, counts, before = 24, left_counts(cosine_keep_counts(24, 12), 24), -1
    for trace, probability in zip(traces, probabilities, strict=True):
        assert trace.step == next(step for step, count in enumerate(counts) if step > before and count < left)
        assert set(trace.read[probability >= bound].tolist()) <= set(trace.committed.tolist())
        num_unsure = int((probability[torch.isin(trace.read, trace.committed)] < bound).sum())
        assert num_unsure <= left - counts[trace.step]  # these are of the schedule's share
        left -= len(trace.committed)
        assert left <= counts[trace.step]
        before = trace.step
    assert left == 0
    assert len(traces) < 12
    decided = torch.cat([trace.committed for trace in traces])
    assert len(decided.unique()) == len(decided) == 24


@pytest.mark.parametrize(
    "commit", [ParallelCommit(bound=0.9), ParallelCommit(rule="entropy", bound=1.0)], ids=lambda c: c.rule
)
def test_what_guidance_alone_makes_sure_is_not_sure(tiny_model: Model, commit: ParallelCommit) -> None:
    """The model is sure of code 0, and guidance turns that into code 1, of which it would be as sure."""
    settings = replace(IMAGE, cfg_scale=4.0, temperature=0.0, commit=commit)
    decoding = ImageDecoding(image_of(tiny_model, "a", settings=settings), tiny_model.tokens, torch.device("cpu"))
    given_MV, other_MV = (torch.full((24, 8192), -30.0) for _ in range(2))
    given_MV[:, 0], given_MV[:, 1] = torch.linspace(6.0, 6.1, 24), 0.0  # no two alike: equal ones are decided together
    other_MV[:, 0], other_MV[:, 1] = 10.0, 0.0
    trace = decoding.advance([given_MV, other_MV])
    assert set(trace.sampled_ids.tolist()) == {tiny_model.tokens.image_offset + 1}
    assert len(trace.committed) == 1
    agreeing = ImageDecoding(image_of(tiny_model, "a", settings=settings), tiny_model.tokens, torch.device("cpu"))
    assert len(agreeing.advance([given_MV, given_MV]).committed) == 24


def test_the_reference_cache_goes_with_no_rule_for_what_is_sure() -> None:
    with pytest.raises(ConfigError, match="commit must be none with the reference's cache"):
        ImageSettings(step_cache=StepCacheConfig(), commit=ParallelCommit(bound=0.9))
