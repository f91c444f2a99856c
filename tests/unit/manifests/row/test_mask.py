"""The mask of a row: one of three columns, each checked."""

from typing import Any

import pyarrow as pa
import pytest

from manifests.errors import ManifestError, ManifestRowError
from manifests.row.content_id import content_id
from manifests.row.mask import Mask
from manifests.row.parse import parse_row
from manifests.row.settings import RowDefaults
from manifests.schema import check_schema, passthrough_schema


def mask(**record: Any) -> Mask | None:
    return parse_row({"task": "inpaint", "image": b"x", "prompt": "a hat", **record}, 0, RowDefaults()).mask


def test_a_mask_is_an_image_a_box_or_a_share_of_the_middle() -> None:
    assert mask(mask_box=[1.0, 2, 3, 4]) == Mask(box=(1, 2, 3, 4))
    assert mask(mask_ratio=[0.5, 1], mask_dilation=2) == Mask(ratio=(0.5, 1.0), dilation=2)
    image = mask(mask_image="s3://user:secret@b/m.png", mask_box=None)
    assert image is not None
    assert image.image is not None
    assert (image.column, image.image.name) == ("mask_image", "mask_image s3://b/m.png")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "mask_image, mask_box and mask_ratio are null, task 'inpaint' needs one of them: give one"),
        (
            {"mask_box": [0, 0, 1, 1], "mask_ratio": [1, 1]},
            "mask_box and mask_ratio are given, a row has one mask: leave all but one null",
        ),
        (
            {"mask_box": [0, 0, 16]},
            "mask_box must be a list of 4 numbers, got [0, 0, 16]: give [left, top, right, bottom]",
        ),
        ({"mask_box": [0, 0, None, 9]}, "mask_box must be a list of 4 numbers"),
        ({"mask_box": 16}, "mask_box must be a list of 4 numbers, got 16"),
        ({"mask_box": [0, 0, 1.5, 9]}, "mask_box must be whole pixels, got [0, 0, 1.5, 9]"),
        ({"mask_box": [9, 0, 9, 9]}, "mask_box must have 0 <= left < right"),
        ({"mask_box": [-1, 0, 9, 9]}, "mask_box must have 0 <= left < right"),
        ({"mask_ratio": [0, 1]}, "mask_ratio must be two shares above 0 and at most 1, got [0, 1]"),
        ({"mask_ratio": [float("nan"), 1]}, "mask_ratio: width must be one finite number"),
        ({"mask_ratio": [1, 1], "mask_dilation": -1}, "mask_dilation must be from 0 to 128 tokens, got -1"),
        ({"mask_ratio": [1, 1], "mask_dilation": [1]}, "mask_dilation must be one whole number or null"),
        ({"mask_image": b""}, "mask_image must not be empty, got 0 bytes"),
        ({"mask_image": 3}, "mask_image must be a URI or the bytes of an image file, got 3"),
        ({"mask_ratio": [1, 1], "width": 512}, "width is not used by task 'inpaint', got 512: leave it null"),
        ({"task": "edit", "mask_ratio": [1, 1]}, "mask_ratio is not used by task 'edit', got [1, 1]: leave it null"),
        ({"task": "edit", "mask_image": b"x"}, "mask_image is not used by task 'edit'"),
        ({"mask_ratio": [1, 1], "image": None}, "image is null, task 'inpaint' needs one"),
        ({"mask_ratio": [1, 1], "prompt": None}, "prompt is null"),
    ],
)
def test_a_wrong_mask_is_refused_with_column_value_and_fix(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestRowError) as caught:
        mask(**record)
    assert str(caught.value).startswith(message)


def test_an_image_struct_of_nulls_is_no_mask() -> None:
    assert mask(mask_image={"bytes": None, "path": None}, mask_ratio=[1, 1]) == Mask(ratio=(1.0, 1.0))
    row = {"task": "text_to_image", "prompt": "a", "mask_image": {"bytes": None, "path": None}}
    assert parse_row(row, 0, RowDefaults()).mask is None


def test_a_manifest_without_any_mask_is_refused_before_it_runs() -> None:
    schema = pa.schema({"prompt": pa.string(), "image": pa.binary()})
    columns = "'mask_image' or 'mask_box' or 'mask_ratio' or 'pad_px' or 'pad_ratio'"
    with pytest.raises(ManifestError, match=f"no column {columns}, task 'outpaint'"):
        check_schema(schema, defaults=RowDefaults(task="outpaint"))
    for dtype in (pa.list_(pa.int32()), pa.list_(pa.float64(), 4), pa.large_list(pa.int64())):
        check_schema(schema.append(pa.field("mask_box", dtype)), defaults=RowDefaults(task="outpaint"))
    with pytest.raises(ManifestError, match="column 'mask_box' has type string"):
        check_schema(schema.append(pa.field("mask_box", pa.string())), defaults=RowDefaults(task="outpaint"))


def test_masks_count_in_the_content_id_whatever_their_numbers_types() -> None:
    assert content_id({"mask_box": [0, 0, 16, 16]}) == content_id({"mask_box": [0.0, 0.0, 16.0, 16.0]})
    assert content_id({"mask_box": [0, 0, 16, 16]}) != content_id({"mask_box": [0, 0, 1, 616]})
    assert content_id({"mask_image": b"x"}) == content_id({"mask_image": {"bytes": b"x", "path": "a"}})


def test_a_mask_that_is_a_uri_reaches_the_output() -> None:
    schema = pa.schema({"mask_image": pa.string(), "image": pa.binary(), "mask_box": pa.list_(pa.int32())})
    assert passthrough_schema(schema).names == ["mask_image"]
