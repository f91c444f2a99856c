"""The page in a real browser, with ten thousand rows, from a disk."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from jobs.report.facts import RunFactSheet
from jobs.report.page_html import page_html
from jobs.report.row import ReportRow
from jobs.report.statistics import RunStatistics
from jobs.report.write import ReportSummary, write_report
from tests.support.browser import browser, file_url, serious_findings, watched_page
from tests.support.large_output import own_cells, prompt_of, write_large_output
from tests.support.manifest_rows import encoded, picture

NUM_ROWS = 10_000
DESKTOP = {"viewport": {"width": 1280, "height": 900}}

# The page's policy forbids to evaluate text, with which playwright would wait for a function; locators need none.
expect.set_options(timeout=30_000)


pytestmark = pytest.mark.long  # one after the other, in one browser


@pytest.fixture(scope="module")
def launched() -> Iterator[Any]:
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def summary(launched: Any, tmp_path_factory: pytest.TempPathFactory) -> ReportSummary:
    folder = write_large_output(tmp_path_factory.mktemp("large"), NUM_ROWS)
    for thumb in folder.glob("images/*"):  # every row shares them: what counts here is the page
        assert thumb.is_file()
    return write_report(str(folder), manifest=None, max_rows=NUM_ROWS)


@pytest.fixture
def page(launched: Any, summary: ReportSummary) -> Iterator[Any]:
    """The page with every row loaded; in the end it has not complained and asked nobody but the disk."""
    with watched_page(launched, **DESKTOP) as watched:
        watched.page.goto(file_url(Path(summary.page)))
        expect(watched.page.locator("#count")).to_have_text("10,000 rows")
        yield watched.page
        assert watched.complaints == []
        assert all(url.startswith(("file:", "data:")) for url in watched.requested)


def test_the_first_of_ten_thousand_rows_are_shown_without_waiting_for_the_others(
    launched: Any, summary: ReportSummary
) -> None:
    assert (summary.rows, summary.shown) == (NUM_ROWS, NUM_ROWS)
    with watched_page(launched, **DESKTOP) as watched:
        refused = []
        watched.page.route("**/*.js", lambda route: (refused.append(route.request.url), route.abort()))
        watched.page.goto(file_url(Path(summary.page)))
        watched.page.wait_for_selector(".card")
        assert refused


@pytest.mark.parametrize("size", [(48, 80), (160, 64)])
def test_a_picture_that_is_no_square_is_shown_whole(launched: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    folder = write_large_output(tmp_path / "out", 4)
    for image in folder.glob("images/*"):
        image.write_bytes(encoded(picture(1, size)))
    summary = write_report(str(folder), manifest=None, max_rows=4)
    with watched_page(launched, **DESKTOP) as watched:
        for address, frame in (("", ".card .pic"), ("#/row/0", ".pair figure a")):
            watched.page.goto(f"{file_url(Path(summary.page))}{address}")
            around, shown = watched.page.locator(frame).first, watched.page.locator(f"{frame} img").first
            expect(shown).to_be_visible()
            outer, inner = around.bounding_box(), shown.bounding_box()
            assert inner["y"] >= outer["y"] - 1
            assert inner["y"] + inner["height"] <= outer["y"] + outer["height"] + 1
            assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1


def test_words_are_found_in_prompts_and_texts(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("coral heron 1")
    wanted = [row for row in range(NUM_ROWS) if row % 50 != 49 and _contains(row, "coral", "heron", "1")]
    expect(page.locator("#count")).to_have_text(re.compile(rf"^{len(wanted):,} row"))
    assert page.locator(".card").first.get_attribute("href") == f"#/row/{wanted[0]}"


def test_filters_narrow_each_other_and_stay_in_the_address(page: Any) -> None:
    page.select_option("#task", "text_to_image")
    page.select_option("#size", index=2)
    wanted = sum(row % 50 != 49 and row % 4 != 3 and row % 3 == 1 for row in range(NUM_ROWS))
    expect(page.locator("#count")).to_have_text(f"{wanted:,} rows")
    page.fill("#score", "0.99")
    high = sum(row % 50 != 49 and row % 4 != 3 and row % 3 == 1 and row * 37 % 101 >= 99 for row in range(NUM_ROWS))
    expect(page.locator("#count")).to_have_text(f"{high} rows")
    page.reload()
    expect(page.locator("#count")).to_have_text(f"{high} rows")
    page.click("#reset")
    expect(page.locator("#count")).to_have_text("10,000 rows")


def test_a_row_is_found_by_its_extra_columns_and_shows_them(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("SKU/07300")
    expect(page.locator("#count")).to_have_text("1 row")
    page.locator(".card").click()
    expect(page.locator("#row .facts")).to_contain_text("sku/07300")
    expect(page.locator("#row .facts")).to_contain_text(own_cells(7300)["shelf"])


def test_rows_are_narrowed_by_an_own_column_of_few_values_with_the_keyboard(page: Any) -> None:
    shelf = page.get_by_role("combobox", name="shelf", exact=True)
    assert page.locator(".filters .column").all_inner_texts() == ["shelf"]
    assert shelf.locator("option").all_inner_texts() == ["All", "ash", "elm & fir", "oak"]
    shelf.focus()
    page.keyboard.press("e")
    wanted = sum(row % 3 == 2 for row in range(NUM_ROWS))
    expect(page.locator("#count")).to_have_text(f"{wanted:,} rows")
    page.select_option("#status", "failed")
    failed = sum(row % 3 == 2 and row % 50 == 49 for row in range(NUM_ROWS))
    expect(page.locator("#count")).to_have_text(f"{failed} rows")
    page.reload()
    expect(page.locator("#count")).to_have_text(f"{failed} rows")
    expect(shelf).to_have_value("elm & fir")
    page.click("#reset")
    expect(page.locator("#count")).to_have_text("10,000 rows")


def test_failed_rows_are_found_with_their_reasons(page: Any) -> None:
    page.select_option("#status", "failed")
    expect(page.locator("#count")).to_have_text("200 rows")
    expect(page.locator(".card .why").first).to_contain_text("NoSuchKey")
    page.goto(page.url.split("#")[0] + "#/failures")
    expect(page.locator("#failures")).to_contain_text("ObjectNotFound")
    expect(page.locator("#failures tbody tr")).to_contain_text("Row 49: cannot read s3://photos/49.jpg: NoSuchKey")


def test_a_failed_row_is_titled_by_its_number(page: Any) -> None:
    page.evaluate("location.hash = '#/row/49'")
    expect(page.locator("#row-title")).to_have_text("Row 49")
    assert page.locator("#row .meta").inner_text() == "row-49"


def test_there_is_only_what_rows_can_be_sorted_by(page: Any, launched: Any, tmp_path: Path) -> None:
    assert options_of(page) == ["", "words", "bytes", "score"]
    facts = RunFactSheet({"manifest": "m", "rows": 1}, is_complete=True)
    image, failed = ReportRow(row=0, id="a", num_bytes=9), ReportRow(row=0, id="a", is_done=False)
    for row, options in ((image, ["", "bytes"]), (failed, [""])):
        (tmp_path / "index.html").write_bytes(page_html(facts, RunStatistics(), [row], []))
        with watched_page(launched, **DESKTOP) as watched:
            watched.page.goto(file_url(tmp_path / "index.html") + "#/gallery?sort=score")
            expect(watched.page.locator("#count")).to_have_text("1 row")
            assert options_of(watched.page) == options
            assert watched.page.locator("#sort").is_visible() == (len(options) > 1)
            assert watched.complaints == []


def options_of(page: Any) -> list[str]:
    return [option.get_attribute("value") for option in page.locator("#sort option").all()]


def test_a_row_is_reached_read_and_left_with_the_keyboard(page: Any) -> None:
    page.locator(".card").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#row-title:focus")
    assert prompt_of(1) in page.locator("#row-title").inner_text()
    assert "7919" in page.locator("#row .facts").inner_text()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#row-title")).to_have_text(prompt_of(2))
    page.keyboard.press("Escape")
    page.wait_for_selector("#gallery:not([hidden])")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#/row/2"


def test_a_slash_leads_from_a_row_to_the_search(page: Any) -> None:
    page.locator(".card").nth(1).click()
    page.wait_for_selector("#row-title:focus")
    page.keyboard.press("/")
    page.keyboard.type("heron")
    expect(page.locator("#q")).to_have_value("heron")
    expect(page.locator("#gallery")).to_be_visible()


def test_scrolling_continues_to_further_rows(page: Any) -> None:
    before = page.locator(".card").count()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".card").nth(before)).to_be_attached()


def test_a_link_to_a_row_that_comes_late_opens_it(launched: Any, summary: ReportSummary) -> None:
    with watched_page(launched, **DESKTOP) as watched:
        watched.page.goto(file_url(Path(summary.page)) + "#/row/9998")
        expect(watched.page.locator("#row-title")).to_have_text(prompt_of(9998))
        assert watched.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_scanner_finds_nothing_serious(launched: Any, summary: ReportSummary, scheme: str) -> None:
    with watched_page(launched, viewport={"width": 900, "height": 800}, color_scheme=scheme) as watched:
        watched.page.goto(file_url(Path(summary.page)))
        for view in ("gallery", "row/2", "row/49", "charts", "failures", "about"):
            watched.page.evaluate(f"location.hash = '#/{view}'")
            expect(watched.page.locator(f"#{view.split('/')[0]}")).to_be_visible()
            assert serious_findings(watched.page) == [], view
        assert watched.complaints == []


def test_nothing_sticks_out_on_a_phone(launched: Any, summary: ReportSummary) -> None:
    with watched_page(launched, viewport={"width": 390, "height": 844}) as watched:
        watched.page.goto(file_url(Path(summary.page)))
        for view in ("gallery", "row/2", "charts", "failures", "about"):
            watched.page.evaluate(f"location.hash = '#/{view}'")
            expect(watched.page.locator(f"#{view.split('/')[0]}")).to_be_visible()
            assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390, view


def test_the_letters_of_charts_can_be_read_on_a_phone(launched: Any, summary: ReportSummary) -> None:
    with watched_page(launched, viewport={"width": 390, "height": 844}) as watched:
        watched.page.goto(file_url(Path(summary.page)) + "#/charts")
        expect(watched.page.locator("#charts")).to_be_visible()
        boxes = watched.page.locator("#charts svg text").all()
        assert boxes
        for text in boxes:
            box = text.bounding_box()
            assert box["height"] >= 11, text.inner_html()
            assert box["x"] >= 0, text.inner_html()
            assert box["x"] + box["width"] <= 390, text.inner_html()


def _contains(row: int, *words: str) -> bool:
    is_image = row % 4 != 3
    text = prompt_of(row) if is_image else f"describe this image in detail. it shows {prompt_of(row)}."
    hay = f"row-{row}\n{text}\n{row * 37 % 101 / 100}\n{own_cells(row)}"
    return all(word in hay for word in words)
