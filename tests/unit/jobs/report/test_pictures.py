"""The contact sheet: every picture as high as the others, whatever its shape, and whole."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from jobs.report.pictures import contact_sheet
from jobs.report.row import ReportRow
from pipeline.storage.local import LocalStore

RED, BLUE = (255, 0, 0), (0, 0, 255)


def sheet_of(folder: Path, *rows: tuple[dict[str, tuple[int, int]], str, str]) -> Image.Image:
    """Of rows with red sources and blue results of these sizes, prompts and answers."""
    store = LocalStore(folder)
    made: list[ReportRow] = []
    for number, (sizes, prompt, text) in enumerate(rows):
        keys = {name: f"{number}-{name}.png" for name in sizes}
        for name, size in sizes.items():
            buffer = io.BytesIO()
            Image.new("RGB", size, RED if name == "source" else BLUE).save(buffer, format="PNG")
            store.put(keys[name], buffer.getvalue())
        made.append(ReportRow(row=number, id=str(number), prompt=prompt, text=text, **keys))
    data = contact_sheet(store, made)
    assert data is not None
    return Image.open(io.BytesIO(data)).convert("RGB")


def box_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The smallest box with all pixels of a colour: left, top, right, bottom."""
    is_colour = Image.fromarray((np.asarray(sheet) == colour).all(axis=-1))
    box = is_colour.getbbox()
    assert box is not None
    return box


def size_of(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int]:
    left, top, right, bottom = box_of(sheet, colour)
    return right - left, bottom - top


def colours_of(sheet: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3).tolist()}


def test_what_a_row_began_with_and_what_it_made_are_both_as_high_as_a_single_picture(tmp_path: Path) -> None:
    pair = sheet_of(tmp_path, ({"source": (64, 64), "image": (32, 64)}, "make it narrow", ""))
    assert size_of(pair, RED) == (192, 192)
    assert size_of(pair, BLUE) == (96, 192)
    assert box_of(pair, RED)[2] < box_of(pair, BLUE)[0]


def test_a_panorama_is_as_wide_as_it_may_be_and_whole(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, ({"image": (1600, 400)}, "a coast", ""))
    assert size_of(sheet, BLUE) == (360, 90)


def test_pictures_that_do_not_fit_beside_the_others_begin_a_new_row(tmp_path: Path) -> None:
    square = ({"image": (64, 64)}, "a sea", "")
    one_row, two_rows = sheet_of(tmp_path / "a", *[square] * 7), sheet_of(tmp_path / "b", *[square] * 8)
    assert size_of(one_row, BLUE)[1] == 192
    assert size_of(two_rows, BLUE)[1] > 2 * 192
    assert one_row.width == two_rows.width <= 1552


def test_an_answer_stands_under_its_question_in_another_colour(tmp_path: Path) -> None:
    source = {"source": (64, 64)}
    asked, answered = (
        sheet_of(tmp_path / "a", (source, "what?", "")),
        sheet_of(tmp_path / "b", (source, "what?", "sea")),
    )
    assert answered.height == asked.height + 17
    assert colours_of(answered) - colours_of(asked)


def test_characters_that_have_no_shape_and_endless_prompts_do_not_break_the_sheet(tmp_path: Path) -> None:
    sheet = sheet_of(tmp_path, ({"image": (64, 64)}, "line\x00break\n" + "very " * 200, "\x1b[31m"))
    assert sheet.height == 16 + 192 + 5 + 5 * 17 + 16
