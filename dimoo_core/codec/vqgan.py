"""The image codec's network: a convolutional encoder, a codebook and a decoder, as ``diffusers.VQModel`` computes it.

Names of modules are those of the published ``vqvae/`` weights, and every operation is the one that diffusers does, so
codes and pixels are the same, bit for bit. It is written out here because a process that imports diffusers for it
spends more time on that than on all else before its first step.

Source: the VQGAN of Esser et al., "Taming Transformers for High-Resolution Image Synthesis", 2021, with the blocks of
the published ``vqvae/config.json``.
Dimensions: B images, h and w pixels, H rows and W columns of codes, C channels of a latent.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from dimoo_core.files import CODEC_CONFIG, CODEC_WEIGHTS
from dimoo_core.model_config import VQConfig

_NORM_EPS = 1e-6


class VQModel(nn.Module):
    """Encoder, codebook and decoder."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.code_size, 1)
        self.quantize = _Codebook(config)
        self.post_quant_conv = nn.Conv2d(config.code_size, config.latent_channels, 1)
        self.decoder = _Decoder(config)

    def save(self, directory: Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write what ``load_vq_model`` and diffusers read."""
        directory.mkdir(parents=True, exist_ok=True)
        self.config.write(directory / CODEC_CONFIG)
        weights = {name: tensor.to(dtype).contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, directory / CODEC_WEIGHTS, {"format": "pt"})

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.post_quant_conv.weight.device

    def encode(self, pixels_B3hw: Tensor) -> Tensor:
        """Latents before quantisation, (B, C, H, W)."""
        latents: Tensor = self.quant_conv(self.encoder(pixels_B3hw))
        return latents

    def nearest_codes(self, latents_BCHW: Tensor) -> Tensor:
        """Index of each latent's nearest codebook entry, (B, H, W) int64."""
        batch, channels, rows, columns = latents_BCHW.shape
        latents = latents_BCHW.permute(0, 2, 3, 1).contiguous().view(-1, channels)
        distances = torch.cdist(latents, self.quantize.embedding.weight)
        return distances.argmin(dim=1).reshape(batch, rows, columns)

    def decode(self, codes_BHW: Tensor) -> Tensor:
        """Pixels of codes, (B, 3, h, w)."""
        latents = self.quantize.embedding(codes_BHW).permute(0, 3, 1, 2).contiguous()
        pixels: Tensor = self.decoder(self.post_quant_conv(latents))
        return pixels


class _Codebook(nn.Module):
    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        entries = torch.empty(config.num_vq_embeddings, config.code_size)
        if not entries.is_meta:  # there to draw nothing imports torch's compiler, which takes 2 s
            nn.init.normal_(entries)
        self.embedding = nn.Embedding(config.num_vq_embeddings, config.code_size, _weight=entries)


class _Encoder(nn.Module):
    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        channels = config.block_out_channels
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _DownBlock(config, before, after, is_last=level == len(channels) - 1)
            for level, (before, after) in enumerate(zip((channels[0], *channels), channels, strict=False))
        )
        self.mid_block = _MidBlock(config, channels[-1])
        self.conv_norm_out = _norm(config, channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], config.latent_channels, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.conv_in(pixels)
        for block in self.down_blocks:
            hidden = block(hidden)
        result: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(hidden))))
        return result


class _Decoder(nn.Module):
    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        channels = config.block_out_channels[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = _MidBlock(config, channels[0])
        self.up_blocks = nn.ModuleList(
            _UpBlock(config, before, after, is_last=level == len(channels) - 1)
            for level, (before, after) in enumerate(zip((channels[0], *channels), channels, strict=False))
        )
        self.conv_norm_out = _norm(config, channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], config.out_channels, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        hidden = self.mid_block(self.conv_in(latents))
        for block in self.up_blocks:
            hidden = block(hidden)
        result: Tensor = self.conv_out(F.silu(self.conv_norm_out(hidden)))
        return result


class _DownBlock(nn.Module):
    """Residual blocks, then half the resolution except on the last level."""

    def __init__(self, config: VQConfig, before: int, after: int, *, is_last: bool) -> None:
        super().__init__()
        self.resnets = _residuals(config, before, after, config.layers_per_block)
        self.downsamplers = nn.ModuleList([] if is_last else [_Downsample(after)])

    def forward(self, hidden: Tensor) -> Tensor:
        for module in (*self.resnets, *self.downsamplers):
            hidden = module(hidden)
        return hidden


class _UpBlock(nn.Module):
    """Residual blocks, then twice the resolution except on the last level."""

    def __init__(self, config: VQConfig, before: int, after: int, *, is_last: bool) -> None:
        super().__init__()
        self.resnets = _residuals(config, before, after, config.layers_per_block + 1)
        self.upsamplers = nn.ModuleList([] if is_last else [_Upsample(after)])

    def forward(self, hidden: Tensor) -> Tensor:
        for module in (*self.resnets, *self.upsamplers):
            hidden = module(hidden)
        return hidden


class _MidBlock(nn.Module):
    def __init__(self, config: VQConfig, channels: int) -> None:
        super().__init__()
        has_attention = config.mid_block_add_attention
        self.attentions = nn.ModuleList([_Attention(config, channels)] if has_attention else [])
        self.resnets = nn.ModuleList(_Residual(config, channels, channels) for _ in range(2))

    def forward(self, hidden: Tensor) -> Tensor:
        first, second = self.resnets
        for module in (first, *self.attentions, second):
            hidden = module(hidden)
        return hidden


class _Residual(nn.Module):
    def __init__(self, config: VQConfig, before: int, after: int) -> None:
        super().__init__()
        self.norm1 = _norm(config, before)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = _norm(config, after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, hidden: Tensor) -> Tensor:
        added = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(hidden))))))
        kept = hidden if self.conv_shortcut is None else self.conv_shortcut(hidden)
        result: Tensor = kept + added
        return result


class _Attention(nn.Module):
    """One head over all positions."""

    def __init__(self, config: VQConfig, channels: int) -> None:
        super().__init__()
        self.group_norm = _norm(config, channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, hidden: Tensor) -> Tensor:
        batch, channels, rows, columns = hidden.shape
        tokens = hidden.view(batch, channels, rows * columns).transpose(1, 2)
        tokens = self.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        query, key, value = (
            project(tokens).unsqueeze(2).transpose(1, 2) for project in (self.to_q, self.to_k, self.to_v)
        )
        found = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        added = self.to_out[0](found).transpose(-1, -2).reshape(batch, channels, rows, columns)
        result: Tensor = added + hidden
        return result


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.conv(F.pad(hidden, (0, 1, 0, 1)))
        return result


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))
        return result


def _residuals(config: VQConfig, before: int, after: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(_Residual(config, before if index == 0 else after, after) for index in range(count))


def _norm(config: VQConfig, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(config.norm_num_groups, channels, eps=_NORM_EPS)
