"""What training draws when."""

from itertools import pairwise

import pytest

from shapes.curriculum import COURSES, KIND_WEIGHTS, MUON_RATES, kinds_at, stage_at
from shapes.smoke_training import tasks_not_learned
from shapes.task import TASKS
from shapes.world import BOARDS


def test_training_begins_with_prompts_on_one_board() -> None:
    names, _ = kinds_at("all-tasks", 0.0)
    assert {task for task, _ in names} == {"text_to_image"}
    assert len(stage_at("all-tasks", 0.0).boards) == 1


def test_the_course_of_questions_begins_with_one_kind_alone() -> None:
    assert kinds_at("questions", 0.0)[0] == [("questions", "existence")]


def test_a_stage_may_draw_some_kinds_more_or_less_often_than_others_do() -> None:
    names, weights = kinds_at("edits", 1.0)
    by_kind = {kind: weight for (_, kind), weight in zip(names, weights, strict=True)}
    assert (by_kind["move"], by_kind["match"]) == (7.0, 4.0)
    assert by_kind["recolour"] == KIND_WEIGHTS["recolour"]
    assert kinds_at("matches", 1.0)[1] != weights


@pytest.mark.parametrize("course", COURSES)
def test_what_a_stage_weighs_is_a_kind_that_there_is(course: str) -> None:
    kinds = {kind for kinds in TASKS.values() for kind in kinds}
    assert KIND_WEIGHTS.keys() <= kinds
    assert all(stage.weights.keys() <= kinds for stage in COURSES[course])


@pytest.mark.parametrize("course", COURSES)
def test_from_the_last_stage_on_every_kind_of_every_task_is_drawn_on_every_board(course: str) -> None:
    for progress in (COURSES[course][-1].from_share, 1.0):
        names, weights = kinds_at(course, progress)
        assert names == [(task, kind) for task, kinds in TASKS.items() for kind in kinds]
        assert len(weights) == len(names)
        assert min(weights) > 0
        assert stage_at(course, progress).boards == BOARDS


@pytest.mark.parametrize("course", COURSES)
def test_no_stage_leaves_out_what_an_earlier_one_showed(course: str) -> None:
    assert MUON_RATES[course] > 0
    for earlier, later in pairwise(COURSES[course]):
        assert earlier.from_share < later.from_share
        assert set(kinds_at(course, earlier.from_share)[0]) <= set(kinds_at(course, later.from_share)[0])
        assert set(earlier.boards) <= set(later.boards)


@pytest.mark.parametrize(
    ("reports", "names"),
    [
        ([{"step": 1, "captioning": 2.0}, {"step": 2, "captioning": 1.0}], []),
        ([{"step": 1, "captioning": 2.0}, {"step": 2, "captioning": 1.9}], ["captioning 2.00 to 1.90"]),
        (
            [{"step": 1, "captioning": 2.0}, {"step": 2, "captioning": 1.0, "questions": 3.0}],
            ["questions 3.00 to 3.00"],
        ),
        ([], ["no report was written"]),
    ],
)
def test_a_short_training_fails_for_tasks_whose_loss_did_not_fall(
    reports: list[dict[str, float]], names: list[str]
) -> None:
    assert tasks_not_learned(reports) == names
