"""The picture of the transformer's losses."""

import json
from pathlib import Path

import pytest

from shapes.curriculum import COURSES
from shapes.curve import lines_of


def log_of(path: Path, losses: list[float]) -> Path:
    reports = [{"step": 50 * index, "minutes": index + 1, "editing": loss} for index, loss in enumerate(losses)]
    path.write_text("".join(f"{json.dumps(report)}\n" for report in reports))
    return path


def test_a_later_run_continues_where_the_one_before_ended(tmp_path: Path) -> None:
    logs = [log_of(tmp_path / "a.jsonl", [5.0] * 5 + [1.0] * 6), log_of(tmp_path / "b.jsonl", [2.0] * 5)]
    assert lines_of(logs)["editing"] == [(5, 5.0), (10, 1.0), (16, 2.0)]


def test_a_log_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 4 reports"):
        lines_of([log_of(tmp_path / "a.jsonl", [1.0] * 4)])


def test_the_logs_of_the_packaged_weights_can_be_drawn() -> None:
    logs = [Path("shapes/trained") / f"{course}.jsonl" for course in COURSES]
    lines = lines_of(logs)
    assert all(line[-1][1] < line[0][1] for line in lines.values())
