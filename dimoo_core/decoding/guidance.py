"""Guidance of an image between steps: the sequences' logits become one, though not each is computed every time.

Dimensions: M positions that are read, N target positions, V image codes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.request.request import Request, SequenceRole
from dimoo_core.settings import ImageSettings

_KEPT_DTYPE = torch.float16  # a difference of logits, scaled by a few units: three digits are enough


class ImageGuidance:
    """Combines logits; keeps how the other sequences differed from the conditional one while that may be reused."""

    def __init__(self, request: Request, settings: ImageSettings, device: torch.device) -> None:
        self._roles = [sequence.role for sequence in request.sequences]
        self._settings = settings
        self._num_target = len(request.target)
        self._device = device
        self._kept: dict[SequenceRole, Tensor] = {}

    def num_bytes(self, num_columns: int) -> int:
        """Memory of the differences for so many image codes."""
        if self._settings.uncond_interval == 1:
            return 0
        return (len(self._roles) - 1) * self._num_target * num_columns * _KEPT_DTYPE.itemsize

    def combine(self, logits: Sequence[Tensor | None], reads_M: Tensor) -> Tensor:
        """Guided logits, (M, V) float32.

        Args:
            logits: Of each sequence at ``reads_M``; None where a sequence was not computed: its difference is that of
                the last time. The conditional sequence is always there.
            reads_M: Target positions.
        """
        by_role = dict(zip(self._roles, logits, strict=True))
        cond_MV = by_role["cond"]
        assert cond_MV is not None
        if any(part_MV is None for part_MV in logits):
            return self._combine_kept(cond_MV, reads_M)
        fresh = {role: part_MV for role, part_MV in by_role.items() if part_MV is not None}
        if self._settings.uncond_interval > 1:
            self._keep(cond_MV, fresh, reads_M)
        if "uncond" in fresh:
            return guide_image(cond_MV, fresh["uncond"], self._settings.cfg_scale)
        return guide_image_to_image(
            cond_MV,
            fresh.get("uncond_text"),
            fresh.get("uncond_image"),
            self._settings.cfg_scale,
            self._settings.cfg_image_scale,
        )

    def _keep(self, cond_MV: Tensor, fresh: dict[SequenceRole, Tensor], reads_M: Tensor) -> None:
        for role, part_MV in fresh.items():
            if role == "cond":
                continue
            if role not in self._kept:
                shape = (self._num_target, cond_MV.shape[-1])
                self._kept[role] = torch.zeros(shape, dtype=_KEPT_DTYPE, device=self._device)
            self._kept[role][reads_M] = (cond_MV - part_MV).to(_KEPT_DTYPE)

    def _combine_kept(self, cond_MV: Tensor, reads_M: Tensor) -> Tensor:
        """``guide_image`` and ``guide_image_to_image`` are both ``cond + sum of scale * (cond - other)``."""
        guided_MV = cond_MV
        for role, kept_NV in self._kept.items():
            scale = self._settings.cfg_image_scale if role == "uncond_image" else self._settings.cfg_scale
            guided_MV = guided_MV + scale * kept_NV[reads_M].float()
        return guided_MV


def guide_image(cond_MV: Tensor, uncond_MV: Tensor, cfg_scale: float) -> Tensor:
    """Classifier-free guidance of text-to-image; ``cfg_scale`` 0 would return ``cond_MV``."""
    return (1 + cfg_scale) * cond_MV - cfg_scale * uncond_MV


def guide_image_to_image(
    cond_MV: Tensor,
    uncond_text_MV: Tensor | None,
    uncond_image_MV: Tensor | None,
    cfg_scale: float,
    cfg_image_scale: float,
) -> Tensor:
    """Guidance away from "no text" and from "no images"; a part whose scale is 0 needs no logits.

    Source: ``generate_i2i`` of the reference, which computes all three sequences even then.
    """
    guided_MV = cond_MV
    if uncond_text_MV is not None:
        guided_MV = guided_MV + cfg_scale * (cond_MV - uncond_text_MV)
    if uncond_image_MV is not None:
        guided_MV = guided_MV + cfg_image_scale * (cond_MV - uncond_image_MV)
    return guided_MV


def guide_text(cond_MV: Tensor, uncond_MV: Tensor, cfg_scale: float) -> Tensor:
    """Classifier-free guidance of text: the same formula in the order in which the reference rounds it."""
    return uncond_MV + (cfg_scale + 1) * (cond_MV - uncond_MV)
