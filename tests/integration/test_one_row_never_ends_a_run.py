"""Whatever is raised while something is done for a row, on whatever thread: that row fails, and no other."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dimoo_core.engine.engine import Engine
from dimoo_core.engine.step_batch import StepBatch
from dimoo_core.request.builder import RequestLayout
from manifests.row import parse
from pipeline.images.inputs import ImageFetcher
from pipeline.output import results
from pipeline.rows import preprocess
from pipeline.rows.postprocess import Postprocessor
from pipeline.rows.preprocess import Preprocessor
from pipeline.rows.row_hooks import ResultJudge
from pipeline.worker import commit
from pipeline.worker.partials import PartialWriter
from tests.support.in_process import load_models_once, run_here
from tests.support.manifest_rows import encoded, image_row, picture, text_row, write_manifest
from tests.support.run_output import RunOutput


class Panic(BaseException):
    """What libraries in Rust raise: no ``Exception``."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("a value\nof two lines"),
    "KeyError": lambda: KeyError("key"),
    "RuntimeError": lambda: RuntimeError("x" * 100_000),
    "MemoryError": MemoryError,
    "OSError": lambda: OSError(5, "input/output error"),
    "RecursionError": RecursionError,
    "AssertionError": AssertionError,
    "TimeoutError": TimeoutError,
    "UnicodeEncodeError": lambda: UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed"),
    "OutOfMemoryError": lambda: torch.OutOfMemoryError("on a device"),
    "CancelledError": asyncio.CancelledError,
    "Panic": lambda: Panic("a panic"),
    "Unspeakable": Unspeakable,
    "StopIteration": StopIteration,
}
"""Of types that nothing here foresees; each row is named after its own."""

GOOD = [f"good {number}" for number in range(6)]


def raise_for(name: object) -> None:
    """If this names a row, or is the prompt of one, whose turn it is to fail."""
    kind = str(name).rpartition(" ")[2]
    if kind in ERRORS:
        raise ERRORS[kind]()


class Saboteur:
    """Makes one stage of a row's way raise. Names of rows are in their prompts, and by number known to the engine."""

    def __init__(self, patch: pytest.MonkeyPatch, ids: list[str]) -> None:
        self._patch = patch
        self._ids = ids

    def before(self, owner: Any, name: str, named_by: Callable[..., Any]) -> None:
        """Raise before the function does its work."""
        real = getattr(owner, name)

        def broken(*args: Any, **options: Any) -> Any:
            for each in self._names(named_by(*args, **options)):
                raise_for(each)
            return real(*args, **options)

        self._patch.setattr(owner, name, broken)

    def _names(self, found: Any) -> list[Any]:
        return found if isinstance(found, list) else [found]

    def id_of(self, request_id: str) -> str:
        return self._ids[int(request_id.partition(".")[0])]

    def after_a_round(self) -> None:
        real = preprocess.samples

        def broken(row: Any, *args: Any) -> Any:
            made = yield from real(row, *args)
            raise_for(row.id)
            return made

        self._patch.setattr(preprocess, "samples", broken)

    def ids_of(self, states: Any) -> list[str]:
        return [self.id_of(state.decoding.request.request_id) for state in states]


STAGES: dict[str, tuple[str, Callable[[Saboteur], None]]] = {
    "the manifest's row is parsed": ("text", lambda s: s.before(parse, "parse_row", lambda record, *_: record["id"])),
    "partial segments are looked at": (
        "text",
        lambda s: s.before(PartialWriter, "reused", lambda self, segment, row: s.id_of(str(row))),
    ),
    "the row is prepared": ("image", lambda s: s.before(Preprocessor, "preprocess", lambda self, row, folder: row.id)),
    "an image is fetched": (
        "text",
        lambda s: s.before(ImageFetcher, "fetch", lambda self, source, *_, **__: source.name),
    ),
    "the request is laid out": (
        "text",
        lambda s: s.before(RequestLayout, "understanding", lambda self, name, *_: s.id_of(name)),
    ),
    "an image's request is laid out": (
        "image",
        lambda s: s.before(RequestLayout, "text_to_image", lambda self, name, *_, **__: s.id_of(name)),
    ),
    "the engine gets it": (
        "image",
        lambda s: s.before(Engine, "_decoding", lambda self, request: s.id_of(request.request_id)),
    ),
    "a step is planned": ("image", lambda s: s.before(StepBatch, "_plan", lambda self, state, _: s.ids_of([state]))),
    "a step of several is computed": (
        "image",
        lambda s: s.before(StepBatch, "logits", lambda self, _: s.ids_of(self._states)),
    ),
    "the step is taken": (
        "text",
        lambda s: s.before(Engine, "_advance_one", lambda self, state, _: s.ids_of([state])),
    ),
    "a round is over": ("image", Saboteur.after_a_round),
    "several images are decoded": (
        "image",
        lambda s: s.before(
            Postprocessor, "through_codec", lambda self, made: [image.prompt for each in made for image in each.images]
        ),
    ),
    "an image is stored": (
        "image",
        lambda s: s.before(Postprocessor, "finish_images", lambda self, row, *_: row.id),
    ),
    "a text is finished": ("text", lambda s: s.before(Postprocessor, "finish_text", lambda self, row, *_: row.id)),
    "hooks judge": ("image", lambda s: s.before(ResultJudge, "judge", lambda self, row, *_: row.id)),
    "the part is made": (
        "text",
        lambda s: s.before(
            commit, "part_bytes", lambda rows, *_, **__: [r.id for r in rows if isinstance(r, results.RowSuccess)]
        ),
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_row_on_which_anything_is_raised_fails_alone(
    stage: str, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_models_once(monkeypatch)
    kind, sabotage = STAGES[stage]
    ids = [*GOOD[:3], *ERRORS, *GOOD[3:]]
    image = encoded(picture())
    rows = [
        image_row(each, prompt=f"a bicycle {each}")
        if kind == "image"
        else text_row(each, image) | {"image": {"bytes": image, "path": f"image {each}"}}
        for each in ids
    ]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    sabotage(Saboteur(monkeypatch, ids))
    summary = run_here(manifest, tmp_path / "out", tiny_checkpoint, pipeline={"segment_rows": 8, "flush_rows": 4})
    output = RunOutput(tmp_path / "out")
    output.check_complete(ids)
    failed = output.failed_by_id()
    assert set(failed) == set(ERRORS)
    assert (summary.done, summary.failed, summary.workers_lost) == (len(GOOD), len(ERRORS), 0)
    for name, failure in failed.items():
        assert failure["error_type"] == name or name in ("StopIteration", "OutOfMemoryError"), failure
        assert len(failure["message"]) <= 2000
        assert "\n" not in failure["message"]
    assert failed["MemoryError"]["failure_class"] == "oom"
    if failed["OutOfMemoryError"]["stage"] != "manifest":  # where torch is not known
        assert failed["OutOfMemoryError"]["failure_class"] == "oom"
