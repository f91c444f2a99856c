"""The tensors of a safetensors file, one by one, none of which gets past here with values that are not finite.

Nor does one whose values would not be in the type that it is loaded as. Its largest and smallest value are looked at,
which is one pass over it, on a thread that reads ahead of what is done with it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from dimoo_core.checkpoint.tensors import DOWNLOAD_AGAIN, opened
from dimoo_core.errors import WeightsError

T = TypeVar("T")


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Each tensor with its name, in the order of the file's header; memory is taken as its values are looked at."""
    with opened(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            yield name, file.get_tensor(name)


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made while the one before is used.

    Two exist at a time. One thread makes them all, and has ended when this is exhausted or closed.
    """
    with ThreadPoolExecutor(1, "read-ahead") as executor:
        following = executor.submit(next, items, None)
        while (item := following.result()) is not None:
            following = executor.submit(next, items, None)
            yield item


def check_finite(tensor: Tensor, where: str, dtype: torch.dtype | None = None) -> None:
    """Refuse a tensor that is not finite, or would not be in another type.

    ``aminmax`` gives a NaN back if there is one, and rounding keeps order, so the two extremes suffice.

    Args:
        tensor: Floating point, of any shape.
        dtype: That it becomes; None if it stays as it is or is scaled to fit.
    """
    if not tensor.numel():
        return
    extremes = torch.stack(torch.aminmax(tensor))
    if not extremes.isfinite().all():
        raise WeightsError(
            f"{where} holds values that are not finite (NaN or infinity): {DOWNLOAD_AGAIN}, or use a state of the "
            "training before it diverged"
        )
    if dtype is not None and not extremes.to(dtype).isfinite().all():
        name, largest = str(dtype).removeprefix("torch."), max(map(abs, extremes.tolist()))
        wider = "bfloat16" if dtype == torch.float16 and largest < torch.finfo(torch.bfloat16).max else "float32"
        raise WeightsError(f"{where} holds values up to {largest:.4g}, too large for {name}: set dtype={wider}")
