"""How alike two images are, by torchmetrics: PSNR and SSIM, which need no downloaded weights."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dimoo_core.errors import ConfigError

_LEAST_SIDE = 11  # of SSIM's window


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """``psnr_db`` is None for equal images; ``ssim`` is 1 for them."""

    psnr_db: float | None
    ssim: float
    max_difference: int  # of any channel of any pixel, 0 to 255


def require_metrics() -> None:
    """Refuse a machine without the library before hours are spent.

    Raises:
        ConfigError: If torchmetrics is not installed.
    """
    try:
        import torchmetrics.functional.image  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "images are compared by torchmetrics: pip install torchmetrics, or carry its wheel and that of "
            "lightning-utilities"
        ) from error


def likeness(first: Image.Image, second: Image.Image) -> Likeness:
    """Compare two images of one size.

    Raises:
        ValueError: If their sizes differ.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    if first.size != second.size or min(first.size) < _LEAST_SIDE:
        raise ValueError(f"cannot compare images of {first.size} and {second.size} pixels")
    pixels, others = _pixels(first), _pixels(second)
    difference = int((pixels - others).abs().max())
    if difference == 0:
        return Likeness(psnr_db=None, ssim=1.0, max_difference=0)
    return Likeness(
        psnr_db=float(peak_signal_noise_ratio(pixels, others, data_range=255.0)),
        ssim=float(structural_similarity_index_measure(pixels, others, data_range=255.0)),
        max_difference=difference,
    )


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float()
