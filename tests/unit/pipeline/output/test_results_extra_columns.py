import datetime
import decimal
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.columns import COLUMNS
from pipeline.output.results import MAX_CELL_CHARS, extra_columns


def found(**columns: Any) -> Any:
    text = extra_columns(pa.table({name: [None, value] for name, value in columns.items()}), 1)
    return None if text is None else json.loads(text)


def test_columns_that_are_ours_are_not_among_them() -> None:
    assert found(id="a", image="s3://b/a.png?X-Amz-Signature=s", prompt="p", sku="A-1", shelf=7) == {
        "sku": "A-1",
        "shelf": 7,
    }


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, True),
        (0, 0),
        ("größe\n\0🦤", "größe\n\0🦤"),
        ([1, None, 2], [1, None, 2]),
        ({"a": {"b": "c"}}, {"a": {"b": "c"}}),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (decimal.Decimal("1.50"), "1.50"),
    ],
)
def test_cells_are_told_as_json(value: object, told: object) -> None:
    assert found(cell=value) == {"cell": told}


@pytest.mark.parametrize("value", [None, b"bytes", [b"bytes"], float("nan"), [float("inf")], "a" * MAX_CELL_CHARS])
def test_what_is_long_or_has_no_form_in_json_is_left_out(value: object) -> None:
    assert found(cell=value, sku="A-1") == {"sku": "A-1"}
    assert found(cell=value) is None


def test_what_is_no_value_of_python_is_left_out() -> None:
    invalid = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    far = pa.array([2**62], pa.timestamp("s"))
    assert extra_columns(pa.table({"invalid": invalid, "far": far, "sku": ["A-1"]}), 0) == '{"sku": "A-1"}'


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.booleans()), max_size=5))
def test_whatever_the_names_it_is_one_object(cells: dict[str, Any]) -> None:
    cells = {name: value for name, value in cells.items() if name not in COLUMNS}
    assert (found(**cells) if cells else None) == (cells or None)
