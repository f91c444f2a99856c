from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ManifestError
from manifests.files.duplicates import find_duplicate_ids


def first_places(ids: list[str | None]) -> dict[int, int]:
    """What is to be found, by looking at every id."""
    first: dict[str, int] = {}
    return {
        row: first[row_id]
        for row, row_id in enumerate(ids)
        if row_id is not None and first.setdefault(row_id, row) != row
    }


@settings(max_examples=40)
@given(
    batches=st.lists(st.lists(st.none() | st.text(alphabet="ab", max_size=3), max_size=8), max_size=6),
    keys_in_memory=st.integers(0, 10),
)
def test_every_repeated_id_is_found_with_its_first_row(
    batches: list[list[str | None]], keys_in_memory: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ids = [row_id for batch in batches for row_id in batch]
    starts = np.cumsum([0, *map(len, batches)]).tolist()
    numbered = [(start, pa.array(batch, pa.string())) for start, batch in zip(starts, batches, strict=False)]
    spill_dir = tmp_path_factory.getbasetemp()
    found = find_duplicate_ids(numbered, spill_dir=spill_dir, keys_in_memory=keys_in_memory)
    assert found == first_places(ids)
    assert list(found) == sorted(found)
    assert find_duplicate_ids(reversed(numbered), spill_dir=spill_dir, keys_in_memory=keys_in_memory) == found


@pytest.mark.parametrize(
    "dtype", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.null()]
)
def test_every_layout_of_text_is_understood(dtype: pa.DataType, tmp_path: Path) -> None:
    ids = [None] * 5 if pa.types.is_null(dtype) else ["x", None, "y", "x", None]
    column = pa.array(ids).dictionary_encode() if pa.types.is_dictionary(dtype) else pa.array(ids, dtype)
    assert find_duplicate_ids([(10, column)], spill_dir=tmp_path) == ({} if ids[0] is None else {13: 10})


def test_a_sliced_batch_is_read_at_its_offset(tmp_path: Path) -> None:
    column = pa.array(["x", None, "y", "x", "y"]).slice(2)
    assert find_duplicate_ids([(2, column)], spill_dir=tmp_path) == {4: 2}


def test_many_ids_are_spilled_and_the_file_is_gone_afterwards(tmp_path: Path) -> None:
    batches = [
        (start, pa.array([f"row {row % 39_990}" for row in range(start, start + 5000)]))
        for start in range(0, 40_000, 5000)
    ]
    found = find_duplicate_ids(batches, spill_dir=tmp_path, keys_in_memory=6000)
    assert found == {39_990 + row: row for row in range(10)}
    assert list(tmp_path.iterdir()) == []


def test_a_small_manifest_touches_no_disk(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "there"
    assert find_duplicate_ids([(0, pa.array(["a", "b", "a"]))], spill_dir=missing) == {2: 0}
    assert find_duplicate_ids([], spill_dir=missing) == {}


def test_too_many_duplicates_stop_the_search_with_an_example(tmp_path: Path) -> None:
    batch = (0, pa.array(["same"] * 5))
    with pytest.raises(
        ManifestError, match=r"more than 3 rows repeat .*, such as row 1 that of row 0: ids must be unique"
    ):
        find_duplicate_ids([batch], spill_dir=tmp_path, max_duplicates=3)
    assert len(find_duplicate_ids([batch], spill_dir=tmp_path, max_duplicates=4)) == 4
