import pytest

from shapes.score import Score, summed, table, wilson_interval


def test_the_interval_is_wilsons() -> None:
    # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_the_interval_of_nothing_is_everything() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def score(task: str, kind: str, *mistakes: str | None) -> Score:
    made = Score(task, kind)
    for mistake in mistakes:
        made.add(mistake)
    return made


def test_a_score_counts_mistakes_apart() -> None:
    assert score("editing", "add", None, "wrong cell", None, "wrong cell").to_json() == {
        "task": "editing",
        "kind": "add",
        "held_out": None,
        "right": 2,
        "total": 4,
        "ratio": 0.5,
        "interval": [0.15004, 0.84996],
        "mistakes": {"wrong cell": 2},
    }


def test_sums_are_by_task() -> None:
    parts = [
        score("editing", "add", None),
        score("editing", "move", "wrong cell", None),
        score("subject", "alone", None),
    ]
    assert [(whole.task, whole.right, whole.total) for whole in summed(parts)] == [("editing", 2, 3), ("subject", 1, 1)]
    assert summed(parts)[0].mistakes == {"wrong cell": 1}


def test_the_table_has_a_line_a_score() -> None:
    assert table([score("editing", "add", None, "wrong cell")]).splitlines()[-1] == (
        "| editing | add | 1 of 2 | 50.0 | 9.5 to 90.5 | wrong cell 1 |"
    )
