"""Training the VQ codec around its fixed codebook, stage by stage.

The encoder learns to put out the vector of each tile's code, from blurred, noisy and tinted images. The decoder learns
to draw tiles. Its hard part is to know where within a tile a pixel lies, since it upsamples copies of one vector and
finds a tile's edges only by comparing neighbours. So it is grown: first the levels up to 1/8 of the resolution learn
to predict, through a linear head, the 8x8 pixels under each position, then the levels up to 1/4, to 1/2, and at last
the whole decoder. The early stages are cheap and do the hard part; their heads are thrown away. The last stage only
weighs empty tiles as much as pieces, so that backgrounds come out flat.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapes.codebook import code_vectors
from shapes.codec import build_codec, draw_grids, grid_images, save_codec
from shapes.muon import optimizers
from shapes.tile import CODE_OF, EDGES, Codes, Tile
from shapes.training_log import TrainingLog
from shapes.world import BOARDS, STYLES

_SEED = 20_240
_EMPTY_CODES = [CODE_OF[Tile(family)] for family in (*STYLES, EDGES)]
_SAVE_STEPS = 250


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the codec, trained for a number of steps; ``scale`` is the pixels under one position of its output."""

    name: str
    num_steps: int
    muon_lr: float
    scale: int | None = None  # None: the encoder
    empty_weight: float = 0.3  # of an empty tile's loss, against 1 of a piece's: flat tiles are learned at once


STAGES = (
    Stage("encoder", 1500, 0.02),
    Stage("decoder 1/8", 3500, 0.03, 8),
    Stage("decoder 1/4", 1200, 0.02, 4),
    Stage("decoder 1/2", 1200, 0.02, 2),
    Stage("decoder", 3000, 0.015, 1),
    Stage("polish", 1500, 0.006, 1, empty_weight=1.0),
)


class CodecTraining:
    """One run, in ``directory``; the same call continues a run that was stopped.

    Args:
        directory: Gets ``vqvae/`` after every stage, and ``training/`` with the log, the curve and the state.
        device: As torch names it.
        stages: For a shorter run.
        batch_size: Images of one step.
        report_steps: Steps between two lines of the log.
    """

    def __init__(
        self,
        directory: Path,
        *,
        device: str = "cpu",
        stages: tuple[Stage, ...] = STAGES,
        batch_size: int = 16,
        report_steps: int = 50,
    ) -> None:
        self._directory = directory
        self._device = torch.device(device)
        self._stages = stages
        self._batch_size, self._report_steps = batch_size, report_steps
        self._log = TrainingLog(directory / "training", "codec")
        self._state_path = directory / "training" / "codec.pt"
        torch.manual_seed(_SEED)
        self.model: Any = build_codec().to(self._device)
        self._vectors = code_vectors().to(self._device)
        self._heads = nn.ModuleDict(
            {str(stage.scale): _head(self.model, stage.scale) for stage in stages if stage.scale not in (None, 1)}
        ).to(self._device)
        self._stage_index, self._step, self._seconds = 0, 0, 0.0
        self._optimizers: list[torch.optim.Optimizer] = []
        self._start_stage()
        if self._state_path.exists():
            self._restore()

    @property
    def is_finished(self) -> bool:
        """Whether every stage is done."""
        return self._stage_index == len(self._stages)

    def run(self, *, minutes: float | None = None) -> bool:
        """Train until done or until the time is up; returns ``is_finished``."""
        start, before = time.monotonic(), self._seconds
        recent: list[tuple[float, float]] = []
        while not self.is_finished:
            stage = self._stages[self._stage_index]
            recent.append(self._train_step(stage))
            self._step += 1
            self._seconds = before + time.monotonic() - start
            if self._step % self._report_steps == 0 or self._step == stage.num_steps:
                self._report(stage, recent)
                recent = []
            if self._step == stage.num_steps:
                self._finish_stage()
            elif minutes is not None and self._seconds - before > 60 * minutes:
                self._save()
                return False
            elif self._step % _SAVE_STEPS == 0:
                self._save()
        return True

    def _train_step(self, stage: Stage) -> tuple[float, float]:
        """One update; returns the loss and the stage's measure."""
        rng = np.random.default_rng((_SEED, self._stage_index, self._step))
        grids = draw_grids(rng, BOARDS[rng.integers(len(BOARDS))], self._batch_size)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _lr_factor(self._step, stage.num_steps)
        loss, measure = (
            self._encoder_loss(stage, grids, rng) if stage.scale is None else self._decoder_loss(stage, grids)
        )
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for o in self._optimizers for g in o.param_groups for p in g["params"]], 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        return loss.item(), measure

    def _encoder_loss(self, stage: Stage, grids: Codes, rng: np.random.Generator) -> tuple[Tensor, float]:
        codes = torch.from_numpy(grids).to(self._device)
        images = disturb(grid_images(grids), rng).to(self._device)
        latents = self.model.encode(images).permute(0, 2, 3, 1)
        errors = (latents - self._vectors[codes]).square().mean(-1)
        nearest = torch.cdist(latents.detach().flatten(0, 2), self._vectors).argmin(-1)
        accuracy = (nearest == codes.flatten()).float().mean().item()
        return _weighted_mean(errors, _is_empty(codes), stage), accuracy

    def _decoder_loss(self, stage: Stage, grids: Codes) -> tuple[Tensor, float]:
        assert stage.scale is not None
        codes = torch.from_numpy(grids).to(self._device)
        target = F.pixel_unshuffle(grid_images(grids).to(self._device), stage.scale)
        drawn = self._draw(self._vectors[codes].permute(0, 3, 1, 2), stage.scale)
        errors = (drawn - target).square().mean(1)
        repeats = 16 // stage.scale
        is_empty = _is_empty(codes).repeat_interleave(repeats, 1).repeat_interleave(repeats, 2)
        return _weighted_mean(errors, is_empty, stage), math.sqrt(errors.detach()[~is_empty].mean().item())

    def _draw(self, latents: Tensor, scale: int) -> Tensor:
        """The pixels under each position, as channels, by the levels up to ``1 / scale``."""
        decoder = self.model.decoder
        hidden = self.model.post_quant_conv(latents)
        if scale == 1:
            drawn: Tensor = decoder(hidden)
            return drawn
        hidden = decoder.mid_block(decoder.conv_in(hidden))
        for block in decoder.up_blocks[: _num_blocks(scale)]:
            hidden = block(hidden)
        pixels: Tensor = self._heads[str(scale)](hidden)
        return pixels

    def _start_stage(self) -> None:
        stage = self._stages[self._stage_index]
        if stage.scale is None:
            module = nn.ModuleList([self.model.encoder, self.model.quant_conv])
        elif stage.scale == 1:
            module = nn.ModuleList([self.model.post_quant_conv, self.model.decoder])
        else:
            decoder = self.model.decoder
            blocks = decoder.up_blocks[: _num_blocks(stage.scale)]
            module = nn.ModuleList(
                [self.model.post_quant_conv, decoder.conv_in, decoder.mid_block, *blocks, self._heads[str(stage.scale)]]
            )
        self._optimizers = optimizers(module, stage.muon_lr, adam_lr=3e-3)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def _finish_stage(self) -> None:
        save_codec(self.model, self._directory)
        self._stage_index, self._step = self._stage_index + 1, 0
        if not self.is_finished:
            self._start_stage()
        self._save()

    def _report(self, stage: Stage, recent: list[tuple[float, float]]) -> None:
        loss, measure = (sum(values) / len(values) for values in zip(*recent, strict=True))
        name = "code_accuracy" if stage.scale is None else "piece_rmse"
        self._log.append(stage=stage.name, step=self._step, loss=loss, minutes=self._seconds / 60, **{name: measure})
        self._log.draw_curve("minutes", "loss", series="stage")

    def _save(self) -> None:
        state = {
            "stage": self._stage_index,
            "step": self._step,
            "seconds": self._seconds,
            "model": self.model.state_dict(),
            "heads": self._heads.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        partial = self._state_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._state_path)

    def _restore(self) -> None:
        state = torch.load(self._state_path, map_location=self._device, weights_only=True)
        self._stage_index, self._step, self._seconds = state["stage"], state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self._heads.load_state_dict(state["heads"])
        if not self.is_finished:
            self._start_stage()
            for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)


def disturb(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images with the defects of photographs and decoders: blur, a tint, noise; each image its own amount."""
    batch = len(images)

    def amounts(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (batch, channels, 1, 1))).float()

    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = amounts(-0.4, 0.7).clamp(min=0)
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32)) * amounts(-0.02, 0.05).clamp(min=0)
    disturbed = images * (1 - share) + blurred * share + noise + amounts(-0.04, 0.04, channels=3)
    return disturbed.clamp(0, 1)


def _lr_factor(step: int, num_steps: int) -> float:
    """Warm-up over a tenth of the steps, 50 at most, then half a cosine down to 2%."""
    warmup = min(50, num_steps // 10 + 1)
    return min(1.0, (step + 1) / warmup) * (0.51 + 0.49 * math.cos(math.pi * step / num_steps))


def _is_empty(codes: Tensor) -> Tensor:
    return torch.isin(codes, torch.tensor(_EMPTY_CODES, device=codes.device))


def _weighted_mean(errors: Tensor, is_empty: Tensor, stage: Stage) -> Tensor:
    return (errors * torch.where(is_empty, stage.empty_weight, 1.0)).mean()


def _num_blocks(scale: int) -> int:
    """Blocks of the decoder up to the level at ``1 / scale``."""
    return {8: 1, 4: 2, 2: 3}[scale]


def _head(model: Any, scale: int) -> nn.Module:
    channels = model.config.block_out_channels[-_num_blocks(scale)]
    head = nn.Sequential(
        nn.GroupNorm(model.config.norm_num_groups, channels), nn.Conv2d(channels, 3 * scale * scale, 1)
    )
    nn.init.constant_(head[1].bias, 0.5)
    return head
