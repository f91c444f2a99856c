"""Kind ``text``: whole answers, step by step.

The reference crashes with a NameError when end-of-text turns up; what was recorded then is the state at the crash,
and it is where this engine stops on purpose.
"""

import torch
from torch import Tensor

from benchmarks.reference_noise import GeneratorNoise
from dimoo_core.checkpoint.load import Model
from dimoo_core.decoding.base import StepTrace
from dimoo_core.decoding.sampling import even_transfer_counts
from dimoo_core.request.builder import answer_request
from dimoo_core.request.request import Request, TextResult
from dimoo_core.settings import TextSettings
from tests.parity.checkpoints import Checkpoints, overridden_head, run_alone
from tests.parity.golden import Comparison, Golden, Mismatch

_SETTINGS = {"steps", "gen_length", "block_length", "temperature", "cfg_scale", "remasking"}
_CONFIDENCE_RTOL = 1e-3


def check(golden: Golden, comparison: Comparison, checkpoints: Checkpoints) -> None:
    """The layout against the recorded ids, then the run."""
    if unknown := golden.meta["settings"].keys() - _SETTINGS:
        raise Mismatch(f"unknown settings: {', '.join(sorted(unknown))}")
    model = checkpoints.model(golden)
    with torch.random.fork_rng(devices=[]):
        generator = torch.manual_seed(golden.meta["rng"]["seed"] or 0)
        request = _request(golden, model, generator)
        _check_layout(golden, comparison, checkpoints, request)
        replay = _Replay(golden, comparison, model, request)
        with overridden_head(model, golden.meta.get("lm_head_override")):
            result = run_alone(model, request, replay.on_step)
    assert isinstance(result, TextResult)
    replay.check_unrun(len(golden.steps))
    _check_result(golden, comparison, checkpoints, request.sequences[0].around(replay.target), result)


def _settings(golden: Golden) -> TextSettings:
    recorded = golden.meta["settings"]
    return TextSettings(
        max_tokens=recorded["gen_length"],
        block_length=recorded["block_length"],
        num_steps=recorded["steps"],
        cfg_scale=recorded["cfg_scale"],
        temperature=recorded["temperature"],
        remasking=recorded.get("remasking", "low_confidence"),
    )


def _request(golden: Golden, model: Model, generator: torch.Generator) -> Request:
    sequence, settings = golden.ids("prompt_ids"), _settings(golden)
    start = golden.meta["code_start"]
    end = start + settings.max_tokens
    noise = GeneratorNoise(generator)
    return answer_request(
        golden.name, sequence[: start - 1], sequence[start:end], settings, noise, model.tokens, suffix=sequence[end:]
    )


def _check_layout(golden: Golden, comparison: Comparison, checkpoints: Checkpoints, request: Request) -> None:
    sequence = golden.ids("prompt_ids")
    comparison.equal("prompt_ids", request.sequences[0].around(request.target), sequence)
    if "input_prompt" not in golden.meta:
        comparison.not_checked.append("prompt text")
        return
    text_ids = torch.tensor(checkpoints.tokenizer(golden).encode(golden.meta["input_prompt"]))
    prompt_ids = request.sequences[0].prefix[:-1]
    comparison.equal("prompt text before the images", text_ids[:-1], prompt_ids[: len(text_ids) - 1])
    comparison.equal("prompt text after the images", text_ids[-1:], prompt_ids[-1:])


class _Replay:
    """Follows the target through the engine's steps and compares each with its record."""

    def __init__(self, golden: Golden, comparison: Comparison, model: Model, request: Request) -> None:
        self.target = request.target.clone()
        self._golden = golden
        self._comparison = comparison
        self._tokens = model.tokens
        self._settings = _settings(golden)
        self._outside = torch.cat((request.sequences[0].prefix, request.sequences[0].suffix))
        self._counts: list[int] = []
        self._start: int = golden.meta["code_start"]
        self._next_step = 0

    def on_step(self, trace: StepTrace) -> None:
        """Compare a step that the engine ran, after the idle ones before it."""
        self.check_unrun(trace.step)
        where, recorded = f"step {trace.step}", self._recorded(trace.step)
        start, compare = self._start, self._comparison.equal
        is_committed = torch.isin(trace.read, trace.committed)
        compare(f"{where} active_pos", (trace.read + start).tolist(), recorded["active_pos"])
        compare(f"{where} x0_at_active", trace.sampled_ids.tolist(), recorded["x0_at_active"])
        self._comparison.close(
            f"{where} confidence",
            trace.confidence,
            self._golden.tensors[f"step{trace.step:02d}.confidence"],
            atol=0.0,
            rtol=_CONFIDENCE_RTOL,
        )
        chosen = sorted(set(recorded["selected_pos"]).intersection(recorded["active_pos"]))
        compare(f"{where} selected_pos, those active", (trace.committed + start).tolist(), chosen)
        written = dict(zip((trace.committed + start).tolist(), trace.sampled_ids[is_committed].tolist(), strict=True))
        compare(f"{where} written", written, dict(zip(recorded["written_pos"], recorded["written_ids"], strict=True)))
        self.target[trace.committed] = trace.sampled_ids[is_committed]
        self._next_step = trace.step + 1

    def check_unrun(self, end: int) -> None:
        """The steps up to ``end`` that the engine left out decided nothing in the reference either."""
        for step in range(self._next_step, end):
            recorded = self._recorded(step)
            is_masked = self.target[: recorded["block_range"][1] - self._start] == self._tokens.mask
            active_pos = (is_masked.nonzero().squeeze(-1) + self._start).tolist()
            self._comparison.equal(f"step {step}, not run, active_pos", active_pos, recorded["active_pos"])
            self._comparison.equal(f"step {step}, not run, written_pos", [], recorded["written_pos"])
        self._next_step = end

    def _recorded(self, step: int) -> dict[str, list[int]]:
        """The record of a step, its bookkeeping already compared with the state before it."""
        if step >= len(self._golden.steps):
            raise Mismatch(f"step {step} is run, but only {len(self._golden.steps)} steps were recorded")
        recorded, settings = self._golden.steps[step], self._settings
        block, step_in_block = divmod(step, settings.steps_per_block)
        first = block * settings.block_length
        start, mask = self._start, self._tokens.mask
        if step_in_block == 0:
            num_masked = int((self.target[first : first + settings.block_length] == mask).sum())
            self._counts = even_transfer_counts(num_masked, settings.steps_per_block)
        compare = self._comparison.equal
        compare(f"step {step} number", step, recorded["step"])
        compare(f"step {step} block", block, recorded["block"])
        block_range = [start + first, start + first + settings.block_length]
        compare(f"step {step} block_range", block_range, recorded["block_range"])
        compare(f"step {step} k", self._counts[step_in_block], recorded["k"])
        num_masked = int((self.target == mask).sum() + (self._outside == mask).sum())
        compare(f"step {step} n_masked_total", num_masked, recorded["n_masked_total"])
        return recorded


def _check_result(
    golden: Golden, comparison: Comparison, checkpoints: Checkpoints, final: Tensor, result: TextResult
) -> None:
    settings, tokens = _settings(golden), checkpoints.model(golden).tokens
    comparison.equal("final_x", final, golden.ids("final_x"))
    generated = final[golden.meta["code_start"] :][: settings.max_tokens].tolist()
    comparison.equal("generated_ids", generated, golden.meta["generated_ids"])
    decoded = checkpoints.tokenizer(golden).decode(generated)
    comparison.equal("decoded_skip_special", decoded, golden.meta["decoded_skip_special"])

    num_blocks = 1 + max((step["block"] for step in golden.steps), default=-1)
    finished = generated[: num_blocks * settings.block_length]
    ends = [index for index, token_id in enumerate(finished) if token_id in (tokens.answer_end, tokens.end_of_text)]
    comparison.equal("answer", list(result.token_ids), finished[: ends[0]] if ends else finished)
    comparison.equal("finish reason", result.finish_reason, "stop" if ends else "length")
