import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops
from benchmarks.counting_transformer import CountingTransformer, Flops
from benchmarks.flop_comparison import Counting, flops_by_hand
from benchmarks.plain import PlainTransformer, generate_plainly
from benchmarks.random_weights import random_transformer
from benchmarks.shape import EIGHT_B, TINY
from benchmarks.workload import caption_requests, image_requests, mixed_requests, parse_size, sequence_lengths
from dimoo_core.decoding.sampling import cosine_keep_counts
from dimoo_core.engine.engine import Engine
from dimoo_core.model.packed_batch import PackedBatch, pack, read_everything
from dimoo_core.model.transformer import Observer, Transformer
from dimoo_core.request.request import Request, RequestFailed
from dimoo_core.settings import EngineConfig, ImageSettings, StepCacheConfig, TextSettings

_IMAGE = ImageSettings(width_px=64, height_px=96, num_steps=5)
_CPU = torch.device("cpu")


def _run(engine: Engine, requests: list[Request]) -> None:
    for request in requests:
        engine.submit(request)
    while engine.num_unfinished:
        assert not any(isinstance(result, RequestFailed) for result in engine.step())


_PROJECTION_FLOPS = 2 * TINY.config.hidden_size * (TINY.config.hidden_size + 2 * TINY.config.kv_size)


class _RecordingTransformer(Transformer):
    """Keeps what a real run is made of."""

    batches: list[PackedBatch]

    @classmethod
    def random(cls) -> "_RecordingTransformer":
        transformer = cls(TINY.config)
        transformer.load_state_dict(random_transformer(TINY).state_dict())
        transformer.batches = []
        return transformer

    def forward(self, batch: PackedBatch, observe: Observer | None = None) -> Tensor:
        self.batches.append(batch)
        return super().forward(batch, observe)

    def spared(self) -> int:
        """FLOPs of the projections of tokens whose id another token of their batch has."""
        return sum(len(batch.ids_T) - len(set(batch.ids_T.tolist())) for batch in self.batches) * _PROJECTION_FLOPS


def _real_run(requests: list[Request]) -> tuple[int, int]:
    """FLOPs of a run on real weights, and those that it spared because ids were equal."""
    transformer = _RecordingTransformer.random()
    engine = Engine(transformer, TINY.tokens, EngineConfig(batch_invariance="off"))
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):  # the counter knows no fused CPU kernel
        _run(engine, requests)
    return int(counter.get_total_flops()), transformer.spared()


def test_a_real_run_on_real_weights_costs_what_is_counted_but_for_decided_codes_that_are_equal() -> None:
    mixed = mixed_requests(TINY, num_steps=1)
    requests = [mixed[index] for index in (0, 1, 3, 5, 9)]  # two of them share a stream
    spent, spared = _real_run(requests)
    counted = Counting(TINY).engine(requests)
    assert spent + spared == counted.total + counted.spared
    assert 0 < counted.spared <= spared


def test_a_real_run_costs_exactly_what_is_counted_when_nothing_decided_is_computed_again() -> None:
    requests = image_requests(TINY, replace(_IMAGE, num_steps=1), 2)
    spent, spared = _real_run(requests)
    counted = Counting(TINY).engine(requests)
    assert (spent, spared) == (counted.total, counted.spared)


@pytest.mark.soak
def test_decided_codes_are_counted_once_for_the_sequences_of_their_request_and_for_no_other() -> None:
    for num_requests in (1, 2):
        transformer = CountingTransformer(TINY.config)
        engine = Engine(transformer, TINY.tokens, EngineConfig(batch_invariance="off"))
        requests = image_requests(TINY, _IMAGE, num_requests)
        _run(engine, requests)
        ids = {
            int(index)
            for request in requests
            for sequence in request.sequences
            for index in sequence.around(request.target)
        }
        num_codes, num_steps = 4 * 6, _IMAGE.num_steps
        num_decided = sum(num_codes - kept for kept in cosine_keep_counts(num_codes, num_steps)[:-1])
        num_tokens = num_requests * num_steps * sum(sequence_lengths(requests[0]))
        num_tokens -= (num_requests - 1) * sequence_lengths(requests[0])[1]  # shared at the first step
        num_distinct = num_steps * len(ids) + num_requests * num_decided
        assert transformer.flops.spared == (num_tokens - num_distinct) * _PROJECTION_FLOPS


def test_a_real_plain_run_costs_exactly_what_is_counted() -> None:
    (request,) = image_requests(TINY, _IMAGE, 1)
    plain = PlainTransformer(random_transformer(TINY))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        num_steps = generate_plainly(plain, TINY.tokens, request)
    assert num_steps == _IMAGE.num_steps
    assert counter.get_total_flops() == Counting(TINY).reference(sequence_lengths(request)).total * num_steps


@pytest.mark.soak
def test_passes_with_a_step_cache_cost_exactly_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    transformer, counting = random_transformer(TINY), CountingTransformer(TINY.config)
    whole, batches = transformer.forward, []

    def forward(batch: PackedBatch) -> Tensor:
        batches.append(batch)
        return whole(batch)

    monkeypatch.setattr(transformer, "forward", forward)
    monkeypatch.setattr(transformer, "logits", _random_logits)
    settings = replace(_IMAGE, num_steps=8, step_cache=StepCacheConfig(warmup_ratio=0.2))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _run(Engine(transformer, TINY.tokens, EngineConfig(batch_invariance="off")), image_requests(TINY, settings, 2))
    for batch in batches:
        counting(batch)
    assert counter.get_total_flops() == counting.flops.total
    assert any(batch.layout.query_offsets != batch.layout.key_offsets for batch in batches)


def _random_logits(hidden_RE: Tensor, columns: slice) -> Tensor:
    """Logits without arithmetic."""
    return torch.rand(len(hidden_RE), columns.stop - columns.start)


def test_the_counted_engine_reads_what_the_schedule_leaves_masked() -> None:
    transformer = CountingTransformer(TINY.config)
    _run(Engine(transformer, TINY.tokens, EngineConfig(batch_invariance="off")), image_requests(TINY, _IMAGE, 1))
    num_codes = 4 * 6
    masked = [num_codes, *cosine_keep_counts(num_codes, _IMAGE.num_steps)[:-1]]
    assert transformer.num_read == [2 * count for count in masked]


@pytest.mark.parametrize("length", [1, 38, 84])
def test_the_reference_costs_what_the_textbook_says(length: int) -> None:
    assert Counting(TINY).reference([length]) == flops_by_hand(TINY.config, length)


def test_the_plain_arithmetic_is_that_of_the_packed_transformer_with_every_position_read() -> None:
    transformer = random_transformer(TINY)
    plain = PlainTransformer(transformer)
    ids = [torch.arange(length) % TINY.num_text_ids for length in (17, 30)]
    with torch.inference_mode():
        packed = transformer(pack([read_everything(ids_T) for ids_T in ids], _CPU))
        expected = transformer.logits(packed, slice(None))
        alone = torch.cat([plain.logits(plain.hidden(ids_T)) for ids_T in ids])
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-4)


def test_what_is_saved_adds_up_to_the_whole_difference() -> None:
    comparison = Counting(TINY).compare("", image_requests(TINY, _IMAGE, 3))
    assert sum(comparison.savings().values()) == comparison.reference.total - comparison.engine.total
    assert [saved > 0 for saved in comparison.savings().values()] == [True, False, True, True, True, True]


@pytest.mark.soak
def test_the_unconditional_sequence_is_computed_once_for_all_images_at_the_first_step() -> None:
    counting = Counting(TINY)
    requests = image_requests(TINY, _IMAGE, 3)
    transformer = CountingTransformer(TINY.config)
    uncond_length = sequence_lengths(requests[0])[1]
    first_reads = 4 * 6
    uncond = transformer.stream_flops(uncond_length, first_reads, uncond_length)
    uncond += Flops(head=transformer.head_flops(first_reads, TINY.tokens.image_columns))
    alone, together = counting.engine(requests[:1]), counting.engine(requests)
    assert together.total + together.spared == 3 * (alone.total + alone.spared) - 2 * uncond.total


def test_answers_read_all_columns_and_save_by_positions() -> None:
    settings = TextSettings(max_tokens=16, block_length=8)
    comparison = Counting(TINY).compare("", caption_requests(TINY, settings, 1, image_px=64))
    assert comparison.num_columns == TINY.config.num_embeddings
    assert comparison.savings()["head: only the columns that are read"] == 0
    assert comparison.share < 1


@pytest.mark.soak
def test_at_the_published_shape_an_image_costs_at_most_93_percent_of_the_reference() -> None:
    settings = ImageSettings(num_steps=4)
    assert Counting(EIGHT_B).compare("", image_requests(EIGHT_B, settings, 1)).share <= 0.93


@pytest.mark.soak
def test_the_command_prints_the_share_and_writes_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "flops.json"
    flops.main(["--shape", "tiny", "--size", "64x32", "--steps", "6", "--json", str(out)])
    printed = capsys.readouterr().out
    alone, together, cached, answer = json.loads(out.read_text())["comparisons"]
    assert printed.splitlines()[-1] == f"exact share of reference FLOPs: {alone['share_of_reference']:.3f}"
    assert "NOT" not in printed
    assert together["num_requests"] == 8
    assert cached["saved_flops"]["layers before the last: positions served from the step cache"] > 0
    assert answer["num_steps"] == 128


def test_prompts_are_as_long_as_real_ones() -> None:
    (request,) = image_requests(EIGHT_B, ImageSettings(), 1)
    assert len(request.sequences[0].prefix) == 60 + 2
    assert len(request.target) == 64 * 65


def test_a_size_is_two_integers() -> None:
    assert parse_size("1536x768") == (1536, 768)
    with pytest.raises(ValueError, match="invalid literal"):
        parse_size("1536")
