import math
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from manifests.row.content_id import content_id

NUMBERS = st.one_of(st.integers(-2, 2), st.floats(-2, 2), st.sampled_from([0.0, -0.0, math.nan, math.inf, 512, 512.0]))
RECORDS = st.dictionaries(
    st.sampled_from(["id", "task", "prompt", "image", "width", "seed", "cfg_scale"]),
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(alphabet="ab1", max_size=2), st.binary(max_size=1)),
)


@given(record=RECORDS, random=st.randoms(use_true_random=False))
def test_the_content_id_ignores_order_nulls_other_columns_and_the_given_id(record: dict[str, Any], random: Any) -> None:
    cells = list(record.items())
    random.shuffle(cells)
    same = {**dict(cells), "block_length": None, "split": "train", "id": "other"}
    assert content_id(same) == content_id(record)
    assert len(content_id(record)) == 32


@given(number=st.integers(-(2**31), 2**31 - 1))
def test_the_content_id_ignores_how_a_number_is_stored(number: int) -> None:
    ids = {content_id({"seed": pa.scalar(number, dtype).as_py()}) for dtype in (pa.int32(), pa.int64(), pa.float64())}
    assert len(ids) == 1


@given(first=RECORDS, second=RECORDS)
def test_different_rows_have_different_content_ids(first: dict[str, Any], second: dict[str, Any]) -> None:
    def said(record: dict[str, Any]) -> dict[str, str]:
        given_cells = {name: cell for name, cell in record.items() if cell is not None and name != "id"}
        return {
            name: repr(float(cell) + 0.0) if type(cell) in (int, float) and abs(cell) < 2**53 else repr(cell)
            for name, cell in given_cells.items()
        }

    assert (content_id(first) == content_id(second)) == (said(first) == said(second))


def test_the_content_id_tells_types_and_borders_apart() -> None:
    records: list[dict[str, Any]] = [
        {"prompt": "ab"},
        {"prompt": "a", "task": "b"},
        {"prompt": "b", "task": "a"},
        {"prompt": b"ab"},
        {"prompt": 1},
        {"prompt": "1"},
        {"prompt": True},
        {"prompt": math.nan},
        {"image": "ab"},
        {"image": b"ab"},
        {},
    ]
    assert len({content_id(record) for record in records}) == len(records)


def test_the_content_id_of_an_image_is_that_of_its_bytes_or_its_uri() -> None:
    assert content_id({"image": {"bytes": b"x", "path": "a.png"}}) == content_id({"image": b"x"})
    assert content_id({"image": {"bytes": None, "path": "a.png"}}) == content_id({"image": "a.png"})
    assert content_id({"image": {"bytes": None, "path": None}}) == content_id({})


def test_the_content_id_stays_what_it_was() -> None:
    record = {"task": "text_to_image", "prompt": "a boat", "width": 512, "cfg_scale": 4.5}
    assert content_id(record) == "bfbfb64a79de43f0720f4e786fe04a44"
