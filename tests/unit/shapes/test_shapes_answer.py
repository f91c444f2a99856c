"""Captions and answers are compared by meaning."""

from collections import Counter

import pytest

from shapes.answer import read_answer, read_caption
from shapes.world import Piece

RED, BLUE = Piece("red", "circle"), Piece("blue", "star")


@pytest.mark.parametrize(
    "text",
    [
        "two red circles and a blue star on a night background",
        "A blue star and two red circles, night background.",
        "On a night background there are a blue star, a red circle and one red circle",
        "night background: 2 red circles, 1 blue star",
    ],
)
def test_order_and_phrasing_of_a_caption_do_not_matter(text: str) -> None:
    said = read_caption(text)
    assert said is not None
    assert (said.counts, said.style, said.cells) == (Counter({RED: 2, BLUE: 1}), "night", {})


def test_cells_of_a_caption_are_read() -> None:
    said = read_caption("a blue star at c1 and a red circle in b3 on a paper background")
    assert said is not None
    assert said.cells == {(0, 2): BLUE, (2, 1): RED}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a night background",
        "a red dog on a night background",
        "a red circle on a night sky background",
        "a red circle at a1 and a blue star at a1 on a night background",
        "two red circles at a1 on a night background",
        "red red circle circle",
    ],
)
def test_a_caption_that_cannot_be_understood_is_refused(text: str) -> None:
    assert read_caption(text) is None


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("yes", {"yes"}),
        ("Yes, there is.", {"yes"}),
        ("no", {"no"}),
        ("There are 3.", {"three"}),
        ("three", {"three"}),
        ("It is red", {"red"}),
        ("a red circle", {"red circle"}),
        ("The red circle.", {"red circle"}),
        ("nothing", {"nothing"}),
        ("none", {"nothing"}),
        ("It is at b3.", {"b3"}),
        ("the first", {"first"}),
        ("Neither.", {"neither"}),
        ("yes, at b3", {"yes", "b3"}),
        ("two, at b3 and c1", {"two", "b3", "c1"}),
        ("the first, two red circles, a star", {"first", "two", "red circle"}),
        ("yes no", {"yes", "no"}),
        ("", set()),
        ("banana", set()),
    ],
)
def test_an_answer_is_read_by_its_facts(text: str, facts: set[str]) -> None:
    assert read_answer(text) == facts
