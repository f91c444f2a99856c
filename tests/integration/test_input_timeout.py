"""An input whose bytes never come: its row fails in time, the others are done."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.in_process import run_here
from tests.support.manifest_rows import encoded, picture, text_row, write_manifest
from tests.support.run_output import RunOutput

pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture
def silent_object(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An object of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield "s3://photos/silent.png"


def test_a_row_whose_input_never_comes_fails_with_its_class_and_the_others_are_done(
    silent_object: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    rows = [
        text_row("good", encoded(picture(0))),
        text_row("object", silent_object),
        text_row("as good", encoded(picture(1))),
    ]
    summary = run_here(
        write_manifest(tmp_path / "m.parquet", rows),
        tmp_path / "out",
        tiny_checkpoint,
        failures={"input_timeout_s": 1.0},
    )
    assert (summary.done, summary.failed) == (2, 1)
    output = RunOutput(tmp_path / "out")
    output.check_complete(["good", "object", "as good"])
    failure = output.failed_by_id()["object"]
    assert (failure["stage"], failure["failure_class"], failure["attempts"]) == ("fetch", "timeout", 1)
    assert "InputTimeout (it did not come within failures.input_timeout_s, 1 s)" in failure["message"]
