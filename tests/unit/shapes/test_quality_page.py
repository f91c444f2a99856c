"""The page about quality says what was measured, and the measurements count what they say."""

import json
from pathlib import Path
from typing import Any

import pytest

from shapes import quality_page
from shapes.best_of_evaluation import KINDS, Chosen, asked_examples, summary
from shapes.quality_page import GOALS, PAGE, RESULTS, collected, main, page
from shapes.score import mean_interval
from shapes.task import TASKS


def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


def test_every_figure_of_the_page_is_in_the_results() -> None:
    text = PAGE.read_text()
    assert page(text, results()) == text


def test_other_results_give_another_page() -> None:
    changed = results()
    changed["kept"]["right"] -= 1
    assert page(PAGE.read_text(), changed) != PAGE.read_text()


def test_goals_are_about_tasks_and_kinds_that_there_are() -> None:
    for goal in GOALS:
        assert set(goal.kinds) <= set(TASKS[goal.task]), goal


def test_a_goal_is_reached_from_its_share_on() -> None:
    assert quality_page._goal_line("edits", 90, 90, 100) == "| edits | 90 | 90 of 100 | 90.0 | 82.6 to 94.5 | yes |"
    assert quality_page._goal_line("edits", 90, 89, 100).endswith("| no |")
    assert "not measured" in quality_page._goal_line("edits", 90, 0, 0)


def test_a_part_that_is_given_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE.read_text())
    (tmp_path / "results.json").write_text(RESULTS.read_text())
    (tmp_path / "kept.json").write_text(json.dumps(results()["kept"] | {"right": 3, "total": 4, "wrong": ["a"]}))
    places = ["--page", str(tmp_path / "page.md"), "--results", str(tmp_path / "results.json")]
    main(["--kept", str(tmp_path / "kept.json"), *places])
    written = json.loads((tmp_path / "results.json").read_text())
    assert (written["kept"]["right"], "wrong" in written["kept"]) == (3, False)
    assert written["scores"] == results()["scores"]
    assert "| 3 of 4 | 75.0 |" in (tmp_path / "page.md").read_text()


def test_a_part_that_was_never_measured_is_asked_for() -> None:
    with pytest.raises(ValueError, match="best_of has not been measured: give --best-of FILE"):
        collected({"scores": {}, "kept": {}}, {})


def test_the_gain_of_a_choice_is_taken_row_by_row() -> None:
    rows = [
        Chosen("colours", (False, True), (0.1, 0.9), 1),
        Chosen("colours", (True, False), (0.2, 0.4), 1),
        Chosen("colours", (False, True), (0.3, 0.8), 1),
        Chosen("colours", (True, True), (0.5, 0.5), 0),
    ]
    found = summary(rows)
    assert (found["first"], found["chosen"], found["any"], found["one_or_more"]) == (0.5, 0.75, 0.625, 1.0)
    assert found["gain_over_first"] == mean_interval([1.0, -1.0, 1.0, 0.0])
    assert found["gain_over_any"][0] == pytest.approx(0.125)
    assert found["right_above_wrong"] == pytest.approx(2 / 3)


def test_an_interval_of_a_mean_is_as_wide_as_its_values_are_spread() -> None:
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    mean, low, high = mean_interval([0.0, 1.0] * 50)
    assert mean == 0.5
    assert (high - mean, mean - low) == (pytest.approx(0.0985, abs=1e-3), pytest.approx(0.0985, abs=1e-3))


def test_prompts_of_the_choice_go_on_from_the_question() -> None:
    examples = asked_examples(3, "test")
    assert [example.kind for example in examples] == [kind for kind in KINDS for _ in range(3)]
    assert not any(example.prompt[0].isupper() or example.prompt.startswith("draw") for example in examples)
