"""Tensors are read ahead, and none that is not finite gets by, wherever the value stands and whatever its type."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dimoo_core.checkpoint.tensor_reader import check_finite, read_ahead, read_tensors
from dimoo_core.checkpoint.tensors import StoredTensor, read_header
from dimoo_core.errors import WeightsError

NOT_FINITE = (float("nan"), float("inf"), float("-inf"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("num_values", [1, 7, 1000, 70_001])
def test_a_value_that_is_not_finite_is_found_wherever_it_stands(dtype: torch.dtype, num_values: int) -> None:
    values = torch.linspace(-3, 3, num_values).to(dtype)
    check_finite(values, "w")
    for place in {0, num_values // 3, num_values - 1}:
        for value in NOT_FINITE:
            broken = values.clone()
            broken[place] = value
            with pytest.raises(
                WeightsError, match=r"^w holds values that are not finite \(NaN or infinity\): download"
            ):
                check_finite(broken, "w")


def test_the_largest_numbers_of_a_type_are_finite() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        check_finite(torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min], dtype=dtype), "w", dtype)


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (65519.0, torch.float16, None),  # rounds to the largest
        (65520.0, torch.float16, r"w holds values up to 6.552e\+04, too large for float16: set dtype=bfloat16"),
        (-1e5, torch.float16, r"up to 1e\+05, too large for float16: set dtype=bfloat16"),
        (3.4e38, torch.float16, "too large for float16: set dtype=float32"),
        (3.39e38, torch.bfloat16, None),
        (3.4e38, torch.bfloat16, "too large for bfloat16: set dtype=float32"),
        (3.4e38, torch.float32, None),
    ],
)
def test_a_value_too_large_for_the_type_that_it_becomes_is_refused_with_one_that_holds_it(
    value: float, dtype: torch.dtype, words: str | None
) -> None:
    tensor = torch.tensor([0.0, value, 1.0])
    assert bool(tensor.to(dtype).isfinite().all()) == (words is None), "what copying makes of it"
    if words is None:
        check_finite(tensor, "w", dtype)
        return
    with pytest.raises(WeightsError, match=words):
        check_finite(tensor, "w", dtype)


def test_nothing_is_finite() -> None:
    check_finite(torch.empty(0, 3), "w", torch.float16)


def test_a_header_says_shapes_and_types(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}, path)
    assert read_header(path, if_missing="") == {"a": StoredTensor((2, 3), "F32"), "b": StoredTensor((4,), "BF16")}
    assert {name: tensor.tolist() for name, tensor in read_tensors(path)} == {"a": [[1.0] * 3] * 2, "b": [1.0] * 4}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04" + bytes(100), "it is a pickle file of torch under another name"),
        (b"\x80\x02}q\x00" + bytes(100), "it is a pickle file under another name"),
        (b"GGUF" + bytes([3] * 100), "it is a GGUF file"),
        (b"<html>" + b" " * 100, "it is a web page: download or copy it again"),
        (b"\x00", "header too small: download or copy it again"),
        (bytes(8), "download or copy it again"),
        (b"\xff" * 100, "it has no header of one"),
        (b"\x40" + bytes(7) + b'{"a":', "it is cut off within its header"),
        (b"\x02" + bytes(7) + b"[]", "download or copy it again"),
        (b"\x02" + bytes(7) + b"{}and more", "download or copy it again"),
    ],
)
def test_a_file_that_is_no_safetensors_is_told_by_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_header(path, if_missing="")
    assert str(caught.value).startswith(f"{path} is not a readable safetensors file: ")
    assert words in str(caught.value)


def test_a_file_that_is_cut_off_says_how_much_of_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1000), "b": torch.ones(1000)}, path)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) - 7000):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=f"cut off, {size:,} of its {len(whole):,} bytes are there: download or"):
            read_header(path, if_missing="")


def test_items_come_in_order_and_the_next_is_made_while_one_is_used() -> None:
    made: list[int] = []
    has_made = {number: threading.Event() for number in range(4)}
    may_make = {number: threading.Event() for number in range(5)}

    def items() -> Iterator[int]:
        for number in range(4):
            assert may_make[number].wait(10)
            made.append(number)
            has_made[number].set()
            yield number

    for number in (0, 1):
        may_make[number].set()
    for used in read_ahead(items()):
        if used < 3:
            assert has_made[used + 1].wait(10), "made although this one is still in use"
        assert made == list(range(min(used + 2, 4))), "one ahead, no more"
        may_make[used + 2].set() if used + 2 in may_make else None
    assert made == [0, 1, 2, 3]


def test_what_making_raises_reaches_who_uses_and_no_thread_is_left() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise WeightsError("the second is broken")

    used: list[int] = []
    with pytest.raises(WeightsError, match="the second is broken"):
        used.extend(read_ahead(items()))
    ahead = read_ahead(iter(range(10)))
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
