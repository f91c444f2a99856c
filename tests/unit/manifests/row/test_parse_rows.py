"""A batch of a manifest becomes rows and failures."""

import numpy as np
import pyarrow as pa
import pytest

from manifests.errors import RowFailure
from manifests.row.content_id import content_id
from manifests.row.parse import Row, parse_rows
from manifests.row.settings import RowDefaults


def test_wrong_rows_become_failures_and_the_others_go_on() -> None:
    batch = pa.RecordBatch.from_pylist(
        [
            {"id": "a", "prompt": "a boat", "width": 512.0},
            {"id": "b", "prompt": "a boat", "width": 500.0},
            {"id": None, "prompt": None, "width": None},
            {"id": "\n", "prompt": "a boat", "width": None},
        ]
    )
    for rows in (batch, pa.table(batch)):
        first, second, third, fourth = parse_rows(rows, 100, RowDefaults(task="text_to_image"))
        assert isinstance(first, Row)
        assert (first.index, first.id) == (100, "a")
        message = "width must be a multiple of 16 from 16 to 2048, got 500"
        assert second == RowFailure(101, "b", "manifest", "ManifestRowError", message)
        assert isinstance(third, RowFailure)
        assert (third.row, third.id) == (102, content_id({}))
        assert isinstance(fourth, RowFailure)
        assert (fourth.row, fourth.id) == (103, content_id({"prompt": "a boat"}))


@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_bytes_that_are_not_utf8_fail_their_own_row_only(dtype: pa.DataType) -> None:
    offsets = pa.py_buffer(np.array([0, 1, 3, 4], np.int32))
    prompts = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"a\xff\xfeb")])
    if pa.types.is_dictionary(dtype):
        prompts = prompts.dictionary_encode()
    elif dtype != pa.string():
        prompts = prompts.cast(pa.binary()).cast(pa.large_binary()).view(dtype)
    batch = pa.RecordBatch.from_arrays([prompts, pa.array(["a.png"] * 3)], ["prompt", "image"])
    first, second, third = parse_rows(batch, 0, RowDefaults(task="vqa"))
    assert isinstance(first, Row)
    assert isinstance(third, Row)
    assert isinstance(second, RowFailure)
    assert second.message == "prompt must be text in UTF-8, got the bytes b'\\xff\\xfe'"
    assert len(second.id) == 32
