import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dimoo_core.errors import RequestError
from dimoo_core.settings import TextSettings
from manifests.errors import RowFailure
from manifests.row.images import ImageSource
from manifests.row.parse import Row
from pipeline.errors import RunFailed
from pipeline.rows.preprocess import Preprocessor
from pipeline.storage import retry
from pipeline.storage.errors import StoreError
from pipeline.storage.reader import ObjectReader
from pipeline.storage.retry import RetryPolicy
from tests.support.manifest_rows import encoded, picture
from tests.support.run_settings import cpu_settings
from tests.support.stub_model import StubModel

SETTINGS = cpu_settings("out", model="m")


def row(index: int, image: ImageSource) -> Row:
    settings = TextSettings(max_tokens=8, block_length=8)
    return Row(index=index, id=f"id{index}", task="vqa", prompt="?", image=image, settings=settings, seed=None)


def embedded(index: int = 0) -> Row:
    return row(index, ImageSource(data=encoded(picture(0)), name="embedded image"))


def named(index: int = 0) -> Row:
    return row(index, ImageSource(uri="s3://photos/a.png", name="s3://photos/a.png"))


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def preprocessor(stop: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Iterator[Preprocessor]:
    monkeypatch.setattr(retry, "MAX_TRIES", 3)
    each = Preprocessor(StubModel(), SETTINGS, RetryPolicy(stop, first_wait_s=0.001))  # type: ignore[arg-type]
    yield each
    each.close()


def answers(monkeypatch: pytest.MonkeyPatch, what: Iterator[Any]) -> None:
    """What the reader does, read after read."""

    def read(reader: ObjectReader, uri: str, max_bytes: int) -> bytes:
        answer = next(what)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, bytes)
        return answer

    monkeypatch.setattr(ObjectReader, "read", read)


def throttled() -> StoreError:
    return StoreError("read", "s3://photos/a.png", "SlowDown", retryable=True)


def unreachable() -> StoreError:
    return StoreError("read", "s3://photos/a.png", "EndpointConnectionError", retryable=True)


def test_a_request_is_named_by_its_row_number(preprocessor: Preprocessor) -> None:
    prepared = preprocessor.preprocess(embedded(7), ".")
    assert not isinstance(prepared, RowFailure)
    assert [request.request_id for request in prepared.first_requests] == ["7"]


def test_an_image_that_is_throttled_for_a_while_is_read_in_the_end(
    preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, iter([throttled(), throttled(), encoded(picture(0))]))
    assert not isinstance(preprocessor.preprocess(named(), "."), RowFailure)


def test_an_image_that_cannot_be_had_is_a_failure_of_its_row(
    preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, iter([StoreError("read", "s3://photos/a.png", "NoSuchKey")]))
    failure = preprocessor.preprocess(named(3), ".")
    message = "cannot read s3://photos/a.png: NoSuchKey"
    assert failure == RowFailure(3, "id3", "fetch", "StoreError", message, "store", 1)


def test_when_nothing_can_be_read_any_more_it_is_not_the_row_that_fails(
    preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, iter([encoded(picture(0)), unreachable(), unreachable(), unreachable()]))
    preprocessor.preprocess(named(0), ".")
    with pytest.raises(RunFailed, match="EndpointConnectionError"):
        preprocessor.preprocess(named(1), ".")


def test_when_other_images_can_be_read_meanwhile_it_is_the_row_that_fails(
    preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable_while_others_are_read() -> Iterator[Any]:
        yield unreachable()
        preprocessor.preprocess(embedded(), ".")
        yield unreachable()
        yield unreachable()

    answers(monkeypatch, unreachable_while_others_are_read())
    failure = preprocessor.preprocess(named(1), ".")
    assert isinstance(failure, RowFailure)
    assert (failure.stage, failure.failure_class, failure.attempts) == ("fetch", "store", 3)


def test_no_row_fails_because_the_run_is_stopped(
    preprocessor: Preprocessor, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_while_others_are_read() -> Iterator[Any]:
        yield throttled()
        preprocessor.preprocess(embedded(), ".")
        stop.set()
        yield throttled()

    answers(monkeypatch, stopped_while_others_are_read())
    with pytest.raises(RunFailed):
        preprocessor.preprocess(named(1), ".")


def test_a_prompt_that_cannot_be_laid_out_is_a_failure_of_its_row(
    preprocessor: Preprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def understanding(model: StubModel, *rest: object) -> None:
        raise RequestError("the prompt must not contain '<IMAGE>'")

    monkeypatch.setattr(StubModel, "understanding", understanding)
    failure = preprocessor.preprocess(embedded(), ".")
    assert isinstance(failure, RowFailure)
    assert (failure.stage, failure.error_type) == ("prompt", "RequestError")


def test_relative_images_start_at_the_folder_of_their_manifest(preprocessor: Preprocessor, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    relative = row(0, ImageSource(uri="a.png", name="a.png"))
    assert not isinstance(preprocessor.preprocess(relative, str(tmp_path)), RowFailure)
    assert isinstance(preprocessor.preprocess(relative, str(tmp_path / "elsewhere")), RowFailure)
