import json
import re
from dataclasses import replace

import pytest
import yaml

from jobs.report.card import dataset_card
from jobs.report.charts import course_plots
from jobs.report.facts import RunFactSheet
from jobs.report.page_html import (
    CHUNK_ROWS,
    FIRST_ROWS,
    MAX_FILTERS,
    MAX_VALUES,
    column_filters,
    data_chunks,
    page_html,
)
from jobs.report.row import ReportRow
from jobs.report.statistics import Histogram, RunStatistics, most_common
from manifests.row.task_name import REFERENCE_TASKS
from manifests.tasks import TASKS
from pipeline.output.epoch import EpochReport

HOSTILE = "</script><script>alert(1)</script> | `a` \u2028 <b>"
FACTS = RunFactSheet(
    {"manifest": "s3://data/prompts.parquet", "model": "builtin", "rows": 3, "results": {"defaults": {"task": "vqa"}}},
    is_complete=True,
)


def rows_of(number: int) -> list[ReportRow]:
    return [
        ReportRow(
            row=row, id=f"id-{row}", task="text_to_image", prompt=HOSTILE, image="images/a b.png", width=64, height=32
        )
        for row in range(number)
    ]


def statistics_of(rows: list[ReportRow]) -> RunStatistics:
    statistics = RunStatistics()
    for row in rows:
        statistics.add(row)
    return statistics


def test_every_row_is_in_the_page_or_in_one_of_its_chunks() -> None:
    rows = rows_of(FIRST_ROWS + 2 * CHUNK_ROWS + 1)
    page = page_html(FACTS, statistics_of(rows), rows, []).decode()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    chunks = dict(data_chunks(rows))
    assert [f"report/{path}" for path in data["chunks"]] == list(chunks)
    scripts = [
        json.loads(script.decode().strip().removeprefix("dimooRows(").removesuffix(");")) for script in chunks.values()
    ]
    found = [row["row"] for part in [data["first"], *scripts] for row in part]
    assert found == list(range(len(rows)))


def test_a_prompt_cannot_become_markup_of_the_page() -> None:
    rows = rows_of(2)
    page = page_html(FACTS, statistics_of(rows), rows, [HOSTILE]).decode()
    assert "<script>alert" not in page
    assert page.count("</script>") == 2
    assert "\u2028" not in re.sub('<p class="note">.*?</p>', "", page)


def test_a_prompt_cannot_break_a_table_of_the_card() -> None:
    rows = rows_of(1)
    card = dataset_card(FACTS, statistics_of(rows), rows, has_sheet=False)
    (line,) = [line for line in card.splitlines() if "alert(1)" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 4
    assert "<script" not in line


def test_the_front_matter_of_the_card_is_what_the_hub_reads() -> None:
    rows = rows_of(2)
    card = dataset_card(FACTS, statistics_of(rows), rows, has_sheet=True)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["task_categories"] == ["text-to-image"]
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "parts/*.parquet"}]


@pytest.mark.parametrize("task", [*TASKS, *REFERENCE_TASKS, "multi_view_top"])
def test_a_run_of_any_task_has_a_category_of_the_hub(task: str) -> None:
    row = ReportRow(row=0, id="a", task=task, prompt="", image=None, width=None, height=None)
    front = next(yaml.safe_load_all(dataset_card(FACTS, statistics_of([row]), [row], has_sheet=False)))
    assert len(front["task_categories"]) == 1
    assert task not in (*REFERENCE_TASKS, "multi_view_top") or front["task_categories"] == ["image-to-image"]


def test_the_licence_of_a_model_that_is_not_ours_is_left_to_people() -> None:
    facts = RunFactSheet({"manifest": "m", "model": "someone/model", "rows": 0}, is_complete=False)
    front = yaml.safe_load(dataset_card(facts, RunStatistics(), [], has_sheet=False).split("---\n")[1])
    assert front["license"] == "other"


@pytest.mark.parametrize("model", ["builtin", "someone/model"])
def test_a_card_of_rows_with_inputs_leaves_these_to_their_owners(model: str) -> None:
    facts = RunFactSheet({"manifest": "m", "model": model, "rows": 1}, is_complete=True)
    for task, is_ours in (("text_to_image", model == "builtin"), ("caption", False), ("edit", False)):
        row = ReportRow(row=0, id="a", task=task, prompt="")
        card = dataset_card(facts, statistics_of([row]), [row], has_sheet=False)
        front = next(yaml.safe_load_all(card))
        assert (front["license"] == "apache-2.0") == is_ours
        assert ("license_name" in front) != is_ours
        assert "Everything here is synthetic" not in card
        assert ("not synthetic" in card) == (task != "text_to_image")


def test_a_histogram_counts_every_number_once_within_its_range() -> None:
    numbers = Histogram()
    for value in (0, 1, 1, 19, 20, 21, 500, 500, 12345):
        numbers.add(value)
    bars = numbers.bars(8)
    assert sum(count for *_, count in bars) == 9
    assert (bars[0][0], bars[-1][1]) == (0, 12345)
    assert bars[-1][2] == 1


def test_the_plots_say_their_numbers_in_words() -> None:
    rows = [replace(row, text="a few words", num_bytes=2048, task="a<b") for row in rows_of(1200)]
    page = page_html(FACTS, statistics_of(rows), rows[:1], []).decode()
    for words in ("1,200", "a&lt;b", 'role="img" aria-label="Text lengths.', "3 to 3 words: 1,200"):
        assert words in page


def test_the_largest_counts_come_first_and_the_rest_as_one() -> None:
    assert most_common({"a": 1, "b": 5, "c": 3, "d": 1}, 2) == [("b", 5), ("c", 3), ("others", 2)]


def test_a_score_is_the_first_number_of_a_column_named_so() -> None:
    row = ReportRow(row=0, id="a", extra={"note": "x", "aesthetic_score": 0.25})
    assert row.score == 0.25
    assert row.to_json()["score"] == 0.25


def test_the_first_failure_of_each_kind_is_its_example() -> None:
    failures = [
        ("fetch", "E", "gone <b>"),
        ("fetch", "E", "gone too"),
        ("decode", "E", ""),
        ("hook", "F", "long" * 999),
    ]
    rows = [
        ReportRow(row=1000 + number, id="a", is_done=False, stage=stage, error_type=error, message=message)
        for number, (stage, error, message) in enumerate(failures)
    ]
    statistics = statistics_of(rows)
    assert statistics.examples["fetch", "E"] == (1000, "gone <b>")
    assert len(statistics.examples["hook", "F"][1]) == 300
    page = page_html(FACTS, statistics, rows, []).decode()
    assert "Row 1,000: gone &lt;b&gt;" in page
    assert "Row 1,002" not in page


def filters_of(*extras: dict[str, object]) -> dict[str, set[str]]:
    rows = [ReportRow(row=row, id="a", extra=extra) for row, extra in enumerate(extras)]
    return {column.name: set(column.values) for column in column_filters(rows)}


def test_extra_columns_of_few_values_that_come_again_are_filters() -> None:
    extras = [{"kind": "cat" if row % 2 else "dog", "is_new": row < 3, "page": row % 4} for row in range(8)]
    assert filters_of(*extras) == {"kind": {"cat", "dog"}, "is_new": {"true", "false"}, "page": {"0", "1", "2", "3"}}


def test_columns_that_nobody_would_pick_from_are_no_filters() -> None:
    many = [
        {
            "id_of_mine": f"x{row}",  # a value for each row
            "always": "same",
            "ratio": row % 2 / 2,
            "long": "x" * (70 + row % 2),
            "many": row % (MAX_VALUES + 1),
            "vq_grid": f"[{row % 2}]",  # of the part
            "image": f"{row % 2}.png",  # of the manifest
            "attempts": row % 2,  # of failures
        }
        for row in range(100)
    ]
    assert filters_of(*many) == {}
    assert filters_of({"kind": "cat"}, {"kind": "dog"}, {}, {}) == {}


def test_only_the_first_columns_are_filters() -> None:
    names = [f"c{number}" for number in range(MAX_FILTERS + 2)]
    assert list(filters_of(*(dict.fromkeys(names, row % 2) for row in range(4)))) == names[:MAX_FILTERS]


def test_an_answer_is_shown_without_the_space_that_it_begins_with() -> None:
    record = dict.fromkeys(("task", "prompt", "output", "text", "width", "height", "bytes")) | {"row": 0, "id": "a"}
    assert ReportRow.from_part(record | {"text": " a cat\n"}).text == "a cat"
    assert ReportRow.from_part(record | {"text": None}).text is None


def test_a_zero_in_a_column_that_passed_through_is_shown() -> None:
    record = dict.fromkeys(("task", "prompt", "output", "text", "width", "height", "bytes"))
    row = ReportRow.from_part(record | {"row": 0, "id": "a", "score": 0.0, "is_new": False, "note": ""})
    assert row.extra == {"score": 0.0, "is_new": False}
    assert row.to_json()["score"] == 0.0


def test_a_seed_is_shown_to_its_last_digit() -> None:
    record = dict.fromkeys(("task", "prompt", "output", "text", "width", "height", "bytes"))
    row = ReportRow.from_part(record | {"row": 0, "id": "a", "seed": 2**62 + 1, "steps": 8})
    assert row.to_json()["set"] == {"seed": str(2**62 + 1), "steps": 8}


def report_of(number: int, points: list[list[float]]) -> EpochReport:
    note = {"points": points}
    return EpochReport(number=number, owner="", claimed_at=None, heard_at=None, has_ended=True, note=note)


def test_the_course_of_a_run_continues_over_its_starts() -> None:
    points = [[0, 0, 0, 0, 0.0], [10, 20, 100, 5, 1.0], [20, 60, 300, 10, 3.0]]
    throughput, step_time = course_plots([report_of(number, points) for number in (1, 2)])
    assert list(throughput.table) == [("10 s", "2"), ("20 s", "4"), ("30 s", "2"), ("40 s", "4")]
    assert [value for _, value in step_time.table] == ["200", "400", "200", "400"]
    assert not list(course_plots([]))


def test_a_short_interval_at_the_end_of_a_start_joins_the_one_before() -> None:
    points = [[0, 0, 0, 0, 0.0], [5, 15, 0, 5, 1.0], [10, 30, 0, 10, 2.0], [10.1, 38, 0, 11, 2.1]]
    (throughput, _) = course_plots([report_of(1, points)])
    assert list(throughput.table) == [("5 s", "3"), ("10 s", "4.51")]
    (throughput, _) = course_plots([report_of(1, [*points[:3], [14, 38, 0, 11, 2.1]])])
    assert [value for _, value in throughput.table] == ["3", "3", "2"]
