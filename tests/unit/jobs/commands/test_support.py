"""Signals of a run: the first requests a shutdown, also where the exception that it raises is lost."""

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from jobs.commands import support
from jobs.commands.support import Stopped, drain_at_signal
from pipeline.protocol.shutdown import ShutdownRequest


@pytest.fixture
def shutdown(monkeypatch: pytest.MonkeyPatch) -> Iterator[ShutdownRequest]:
    monkeypatch.setattr(support, "exit_after", lambda *_: None)  # it would end this process
    before, request = signal.getsignal(signal.SIGTERM), ShutdownRequest()
    drain_at_signal(request, 10.0, "out")
    yield request
    signal.signal(signal.SIGTERM, before)


def test_a_signal_before_anybody_waits_is_found_by_who_waits_later(shutdown: ShutdownRequest) -> None:
    with suppress(Stopped):  # as code does that lets no exception out
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the signal raised nothing")
    assert shutdown.is_requested
    assert shutdown.has_deadline


def test_a_second_signal_stops_at_once(shutdown: ShutdownRequest, capfd: pytest.CaptureFixture[str]) -> None:
    shutdown.is_awaited = True
    signal.raise_signal(signal.SIGTERM)
    assert "shutting down gracefully, within 10 s; send the signal again to stop at once" in capfd.readouterr().err
    with pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)
