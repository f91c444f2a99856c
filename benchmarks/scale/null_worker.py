"""The product's worker with a model that computes nothing: what is left is everything around the model."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image

from dimoo_core.checkpoint.locate import Checkpoint
from dimoo_core.engine.engine import EngineStats
from dimoo_core.request.request import ImageResult, Result, TextResult
from pipeline.protocol.messages import Event
from pipeline.protocol.settings import RunSettings
from pipeline.storage.base import Store
from pipeline.storage.reader import open_store
from pipeline.worker.worker import Worker

_RESULTS_A_STEP = 64


class NullModel:
    """Stands for ``Model``, its layout and its codec: answers are one sentence, images four pixels."""

    device = torch.device("cpu")
    transformer = tokens = None  # for the engine, which is null too

    @property
    def layout(self) -> "NullModel":
        """Itself."""
        return self

    @property
    def codec(self) -> "NullModel":
        """Itself."""
        return self

    def encode(self, images: list[Image.Image]) -> list[torch.Tensor]:
        """Codes of no meaning."""
        return [torch.zeros(image.height // 16, image.width // 16, dtype=torch.int64) for image in images]

    def try_encode(self, images: list[Image.Image]) -> list[torch.Tensor]:
        """The same."""
        return self.encode(images)

    def try_decode(self, codes: list[torch.Tensor]) -> list[Image.Image]:
        """Four black pixels each."""
        return [Image.new("RGB", (2, 2)) for _ in codes]

    def understanding(self, request_id: str, *rest: object, **options: object) -> Any:
        """A request for an answer."""
        return SimpleNamespace(request_id=request_id, makes_image=False)

    def text_to_image(self, request_id: str, *rest: object, **options: object) -> Any:
        """A request for an image."""
        return SimpleNamespace(request_id=request_id, makes_image=True)

    def answer_text(self, token_ids: tuple[int, ...]) -> str:
        """The answer to everything."""
        return "Two boats lie at the pier."


class NullEngine:
    """Stands for ``Engine``: a step ends up to 64 requests."""

    _CODES = torch.zeros(4, 4, dtype=torch.int64)

    def __init__(self) -> None:
        self.stats = EngineStats()
        self._waiting: list[Any] = []

    @property
    def num_unfinished(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def submit(self, request: Any) -> None:
        """Take a request."""
        self._waiting.append(request)

    def queued(self) -> set[str]:
        """Requests whose only step is to come: all that wait."""
        return {request.request_id for request in self._waiting}

    def abort(self, request_id: str) -> None:
        """Forget a request."""
        self._waiting = [request for request in self._waiting if request.request_id != request_id]

    def step(self) -> list[Result]:
        """End the oldest requests."""
        self.stats.num_steps += 1
        ended, self._waiting = self._waiting[:_RESULTS_A_STEP], self._waiting[_RESULTS_A_STEP:]
        return [self._result(request) for request in ended]

    def _result(self, request: Any) -> Result:
        counts: dict[str, Any] = {"request_id": request.request_id, "num_steps": 1, "num_tokens": 16, "engine_s": 0.0}
        if request.makes_image:
            return ImageResult(vq_codes=self._CODES, **counts)
        return TextResult(token_ids=(1,) * 16, finish_reason="stop", **counts)


class NullWorker(Worker):
    """A worker whose model is null, and which counts what it asks of the store of its output."""

    def __init__(self, settings: RunSettings, emit: Callable[[Event], None]) -> None:
        super().__init__(settings, emit)
        self.store = CountingStore(open_store(settings.output_uri))

    def _load(self) -> None:
        with patch.multiple(
            "pipeline.worker.worker",
            find_checkpoint=lambda name: Checkpoint(name, Path(name)),
            load_model=lambda *_, **__: NullModel(),
            Engine=lambda *_, **__: NullEngine(),
            open_store=lambda uri: self.store,
        ):
            super()._load()


class CountingStore(Store):
    """Another store, with its requests and bytes counted.

    Attributes:
        counts: ``put``, ``get``, ``head``, ``list``, ``delete``; ``put_bytes``, ``get_bytes``. Threads may lose some.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store.uri)
        self._store = store
        self.counts: Counter[str] = Counter()

    def get(self, key: str) -> bytes:
        """See ``Store.get``."""
        return self._got(self._store.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See ``Store.get_range``."""
        return self._got(self._store.get_range(key, start, length))

    def put(self, key: str, data: bytes, *, content_type: str | None = None) -> None:
        """See ``Store.put``."""
        self.counts.update(put=1, put_bytes=len(data))
        self._store.put(key, data, content_type=content_type)

    def _create(self, key: str, data: bytes) -> bool:
        self.counts.update(put=1, put_bytes=len(data))
        return self._store._create(key, data)

    def size(self, key: str) -> int | None:
        """See ``Store.size``."""
        self.counts.update(head=1)
        return self._store.size(key)

    def list(self, prefix: str = "") -> Iterator[str]:
        """See ``Store.list``."""
        self.counts.update(list=1)
        return self._store.list(prefix)

    def delete(self, key: str) -> None:
        """See ``Store.delete``."""
        self.counts.update(delete=1)
        self._store.delete(key)

    def close(self) -> None:
        """See ``Store.close``."""
        self._store.close()

    def _got(self, data: bytes) -> bytes:
        self.counts.update(get=1, get_bytes=len(data))
        return data
