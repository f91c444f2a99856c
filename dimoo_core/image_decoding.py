"""Parallel decoding of an image: sample every masked position, keep the most confident, mask the rest again.

Source: ``generate_image`` and ``generate_i2i`` of the reference (MaskGIT). Dimensions: M masked positions, V codes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimoo_core.decoding import Decoding, StepTrace
from dimoo_core.request import Request
from dimoo_core.sampling import guide_image, guide_image_to_image, gumbel_max_sample, probability_of, stays_masked
from dimoo_core.schedule import cosine_keep_counts
from dimoo_core.settings import ImageSettings
from dimoo_core.tokens import SpecialTokens


class ImageDecoding(Decoding):
    """An image in progress. A target that is partly known is inpainted: known codes are never touched."""

    def __init__(self, request: Request, tokens: SpecialTokens, device: torch.device) -> None:
        super().__init__(request, tokens.image_columns, device)
        assert isinstance(request.settings, ImageSettings)
        self._settings = request.settings
        self._tokens = tokens
        self._step = 0
        self._masked = self._find_masked()
        self._keep_counts = cosine_keep_counts(len(self._masked), self._settings.num_steps)

    @property
    def is_done(self) -> bool:
        """Nothing is masked any more, or every step was run."""
        return len(self._masked) == 0 or self._step == self._settings.num_steps

    @property
    def num_steps_run(self) -> int:
        """Forward passes so far; a run may end early when nothing is masked."""
        return self._step

    def reads(self) -> Tensor:
        """Every masked position."""
        return self._masked

    def advance(self, logits: Sequence[Tensor]) -> StepTrace:
        """Sample all masked positions, commit the confident ones."""
        settings, step, masked_M = self._settings, self._step, self._masked
        guided_MV = self._guide(logits)
        uniform_MV = None
        if settings.temperature != 0:
            shape = tuple(guided_MV.shape)
            uniform_MV = self.request.noise.uniform(step, "sample", shape, rows=None, dtype=torch.float32)
        codes_M = gumbel_max_sample(guided_MV, settings.temperature, uniform_MV)
        confidence_M = probability_of(guided_MV, codes_M)
        uniform_M = self.request.noise.uniform(
            step, "confidence", tuple(confidence_M.shape), rows=None, dtype=torch.float32
        )
        stays_M = stays_masked(confidence_M, self._keep_counts[step], settings.temperature, uniform_M)
        sampled_M = codes_M + self._tokens.image_offset
        self.target[masked_M] = torch.where(stays_M, self._tokens.mask, sampled_M)
        self._step += 1
        self._masked = masked_M[stays_M]
        return StepTrace(
            step=step,
            read=masked_M,
            logits=guided_MV,
            sampled_ids=sampled_M,
            confidence=confidence_M,
            committed=masked_M[~stays_M],
        )

    def _guide(self, logits: Sequence[Tensor]) -> Tensor:
        by_role = {stream.role: part for stream, part in zip(self.request.streams, logits, strict=True)}
        if "uncond" in by_role:
            return guide_image(by_role["cond"], by_role["uncond"], self._settings.cfg_scale)
        return guide_image_to_image(
            by_role["cond"],
            by_role.get("uncond_text"),
            by_role.get("uncond_image"),
            self._settings.cfg_scale,
            self._settings.cfg_image_scale,
        )

    def vq_codes(self) -> Tensor:
        """The finished image's codes, (rows, columns) on the CPU; every row of the target ends with a newline."""
        target = self.target.cpu()
        is_newline = target == self._tokens.newline
        num_rows = int(is_newline.sum())
        return target[~is_newline].view(num_rows, -1) - self._tokens.image_offset

    def _find_masked(self) -> Tensor:
        return (self.target == self._tokens.mask).nonzero().squeeze(-1)
