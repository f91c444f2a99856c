"""Whatever joins and leaves beside it, a request's tokens are those it gets alone: batches drawn at random."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st

from dimoo_core.checkpoint.load import Model
from dimoo_core.engine.engine import Engine
from dimoo_core.request.noise import SeededNoise
from dimoo_core.request.request import Request
from dimoo_core.settings import EngineConfig, ImageSettings, TextSettings
from tests.support.engine_run import CPU, ids_of, run_all

_PROMPTS = ("a red boat", "two cats near the window", "")


@dataclass(frozen=True)
class _Arrival:
    """A request and how many steps of the engine run before the next one is submitted."""

    seed: int
    prompt: str
    settings: ImageSettings | TextSettings
    num_steps_after: int

    def request(self, model: Model, request_id: str) -> Request:
        noise = SeededNoise(self.seed, CPU)
        if isinstance(self.settings, ImageSettings):
            return model.layout.text_to_image(request_id, self.prompt, self.settings, noise)
        codes_HW = torch.randint(8192, (2, 1 + self.seed % 3), generator=torch.Generator().manual_seed(self.seed))
        return model.layout.understanding(request_id, self.prompt, [codes_HW], self.settings, noise)


_guidance = st.sampled_from([0.0, 3.0])
_temperature = st.sampled_from([0.0, 1.0])
_num_steps = st.integers(1, 4)
_images = st.builds(
    ImageSettings,
    width_px=st.sampled_from([16, 48]),
    height_px=st.sampled_from([16, 32, 64]),
    num_steps=_num_steps,
    cfg_scale=_guidance,
    temperature=_temperature,
)
_texts = st.builds(
    TextSettings,
    max_tokens=st.just(8),
    block_length=st.sampled_from([4, 8]),
    num_steps=st.sampled_from([2, 4, 8]),
    cfg_scale=_guidance,
    temperature=_temperature,
)
_arrivals = st.lists(
    st.builds(
        _Arrival,
        seed=st.integers(0, 2**32 - 1),
        prompt=st.sampled_from(_PROMPTS),
        settings=_images | _texts,
        num_steps_after=st.integers(0, 3),
    ),
    min_size=2,
    max_size=5,
)


@pytest.mark.parametrize("name", ["tiny", "odd"])
@settings(max_examples=8, deadline=None, print_blob=True)
@given(arrivals=_arrivals, spare_tokens=st.sampled_from([0, 40, 10_000]))
def test_requests_that_join_and_leave_at_random_get_the_tokens_they_get_alone(
    name: str, request: pytest.FixtureRequest, arrivals: list[_Arrival], spare_tokens: int
) -> None:
    model: Model = request.getfixturevalue(f"{name}_model")
    note(f"seeds: {[arrival.seed for arrival in arrivals]}")
    requests = {str(index): arrival.request(model, str(index)) for index, arrival in enumerate(arrivals)}
    alone = {}
    for single in requests.values():
        alone |= run_all(Engine(model.transformer, model.tokens), [single])

    largest = max(single.num_tokens for single in requests.values())
    engine = Engine(model.transformer, model.tokens, EngineConfig(max_step_tokens=largest + spare_tokens))
    together = []
    for single, arrival in zip(requests.values(), arrivals, strict=True):
        engine.submit(single)
        for _ in range(arrival.num_steps_after):
            together += engine.step()
    together += run_all(engine).values()

    assert sorted(result.request_id for result in together) == sorted(requests)
    for result in together:
        assert ids_of(result) == ids_of(alone[result.request_id]), f"seed {arrivals[int(result.request_id)].seed}"
