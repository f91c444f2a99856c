"""A model that computes nothing, for tests of what is around it."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from dimoo_core.checkpoint.locate import Checkpoint
from dimoo_core.engine.engine import EngineStats
from dimoo_core.request.request import ImageResult, Result, TextResult


@dataclass
class StubModel:
    """Stands for ``Model``: every request is its id, every answer its length, every image one colour.

    Counts the rows on their way."""

    num_in_hand: int = 0
    most_in_hand: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    transformer: None = None
    tokens: None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def layout(self) -> "StubModel":
        return self

    @property
    def codec(self) -> "StubModel":
        return self

    def encode(self, images: list[Any]) -> list[Any]:
        return [torch.zeros(image.height // 16, image.width // 16, dtype=torch.int64) for image in images]

    def try_encode(self, images: list[Any]) -> list[Any]:
        return self.encode(images)

    def try_decode(self, codes: list[torch.Tensor]) -> list[Image.Image]:
        return self.decode(codes)

    def understanding(self, request_id: str, *rest: object) -> Any:
        with self.lock:
            self.num_in_hand += 1
            self.most_in_hand = max(self.most_in_hand, self.num_in_hand)
        return SimpleNamespace(request_id=request_id, makes_image=False)

    def text_to_image(self, request_id: str, *rest: object, **options: object) -> Any:
        return SimpleNamespace(request_id=request_id, makes_image=True)

    image_to_image = text_to_image

    def decode(self, codes: list[torch.Tensor]) -> list[Image.Image]:
        return [Image.new("RGB", (2, 2), tuple(int(part) for part in each.flatten()[:3])) for each in codes]

    def answer_text(self, token_ids: tuple[int, ...]) -> str:
        with self.lock:
            self.num_in_hand -= 1
        return f"{len(token_ids)} tokens"


class StubEngine:
    """Stands for ``Engine``: every step ends up to four requests."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.stats = EngineStats()
        self.waiting: list[Any] = []

    @property
    def num_unfinished(self) -> int:
        return len(self.waiting)

    def submit(self, request: Any) -> None:
        self.waiting.append(request)

    def queued(self) -> set[str]:
        return {request.request_id for request in self.waiting}

    def abort(self, request_id: str) -> None:
        self.waiting = [request for request in self.waiting if request.request_id != request_id]

    def step(self) -> list[Result]:
        self.stats.num_steps += 1
        ended, self.waiting = self.waiting[:4], self.waiting[4:]
        return [_result_of(request) for request in ended]


def _result_of(request: Any) -> Result:
    counts: dict[str, Any] = {"request_id": request.request_id, "num_steps": 1, "num_tokens": 2, "engine_s": 0.0}
    if not request.makes_image:
        return TextResult(token_ids=(1, 2), finish_reason="stop", **counts)
    row = int(request.request_id)
    return ImageResult(vq_codes=torch.tensor([[row % 256, row // 256 % 256], [row // 65536 % 256, 0]]), **counts)


def use_stub_model(patch: pytest.MonkeyPatch) -> StubModel:
    """From now on workers of this process load a stub, which is returned."""
    model = StubModel()
    for module in ("pipeline.worker.worker", "jobs.run.run", "jobs.run.retry"):
        patch.setattr(f"{module}.find_checkpoint", lambda name: Checkpoint(name, Path(name)))
    for module in ("jobs.run.run", "jobs.run.retry"):
        patch.setattr(f"{module}.check_model", lambda directory, adapter: None)
        patch.setattr(f"{module}.with_memory", lambda settings, *arguments, **options: settings)
        patch.setattr(f"{module}.with_memory", lambda settings, *arguments, **options: settings)
    patch.setattr("jobs.run.identity.digest", lambda directory: "stub")
    patch.setattr("pipeline.worker.worker.load_model", lambda *arguments, **options: model)
    patch.setattr("pipeline.worker.worker.Engine", StubEngine)
    return model
