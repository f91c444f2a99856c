"""What a run shows of its progress: a panel on a terminal, lines elsewhere."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from jobs.progress import display as progress
from jobs.progress.display import LineDisplay, PanelDisplay, _cells, _facts
from jobs.progress.log import begin
from jobs.progress.state import ProgressState
from pipeline.output.results import RunTotals
from pipeline.protocol.messages import SegmentCommitted, WorkerDied, WorkerReady
from tests.support.progress import Clock, state_of, worked


@pytest.fixture(autouse=True)
def _lines_on_standard_error() -> None:
    begin("info")


def test_plain_lines_come_every_ten_seconds_and_only_when_something_has_changed(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_of(num_rows=4)
    with LineDisplay(state) as display:
        state.take("a", WorkerReady(1.0))
        clock.now_s += 9
        state.take("a", worked(1))
        display.refresh()
        clock.now_s += 1
        display.refresh()
        state.take("a", worked(4))
        display.refresh()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "0/4 rows, 2 workers loading the model",
        "1/4 rows, 0 failed, 0.10 rows/s",
        "4/4 rows, 0 failed, 0.40 rows/s",
    ]


def test_a_bar_shows_rows_and_words_and_goes_away(clock: Clock) -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=100)
    state = state_of(num_rows=4)
    with PanelDisplay(state, console) as display:
        state.take("a", WorkerReady(1.0))
        clock.now_s += 1
        state.take("a", worked(3))
        display.refresh()
    assert "3/4" in terminal.getvalue()
    words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "rows/s 3.00" in words
    assert "cache hit" not in words
    assert "cost" not in words


def test_a_bar_shows_failures_before_they_are_committed(clock: Clock) -> None:
    terminal = io.StringIO()
    state = state_of(num_rows=4)
    with PanelDisplay(state, Console(file=terminal, force_terminal=True, width=100)) as display:
        state.take("a", worked(2, 2))
        display.refresh()
    assert "failed 2" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_no_fact_wraps_however_narrow_the_terminal_is(width: int, clock: Clock) -> None:
    state = ProgressState(num_rows=5000, num_resumed=0, num_workers=12, num_resumed_failed=0, worker_hour_usd=2.0)
    state.take("a", WorkerReady(1.0))
    clock.now_s += 900
    state.take("a", replace(worked(3000, 7), num_tokens=3_300_000, num_tokens_reused=9_000_000))
    state.take("b", WorkerDied("killed"))
    state.take("a", SegmentCommitted("0-0", RunTotals(60, 7), (("bad_input", 4), ("not_found", 3))))
    terminal = io.StringIO()
    Console(file=terminal, width=width).print(_facts(state, width))
    lines = terminal.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    facts = [fact for line in lines for fact in re.split(r"\s{3,}", line.strip())]
    assert facts == [f"{name} {value}" for name, value, _ in _cells(state)]
    assert width < 140 or len(lines) == 2


def test_a_bar_shows_cache_hits_and_costs_where_there_are_any(clock: Clock) -> None:
    terminal = io.StringIO()
    state = ProgressState(num_rows=4, num_resumed=0, num_workers=2, num_resumed_failed=0, worker_hour_usd=2.0)
    with PanelDisplay(state, Console(file=terminal, force_terminal=True, width=140)) as display:
        state.take("a", WorkerReady(1.0))
        clock.now_s += 900
        state.take("a", replace(worked(3), num_tokens=30, num_tokens_reused=90))
        display.refresh()
    words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "cache hit 75%" in words
    assert "cost 1.00 USD" in words


def test_a_terminal_gets_a_bar_and_anything_else_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, kind in ((True, PanelDisplay), (False, LineDisplay)):
        console = Console(file=io.StringIO(), force_terminal=is_terminal)
        monkeypatch.setattr(progress, "Console", lambda console=console, **options: console)
        assert isinstance(progress.display_of(state_of(), lambda key: b""), kind)
