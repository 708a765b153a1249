"""SepFormer: a learned filterbank whose features are masked by transformers along and across chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask
from auriscope.separation.kernels import project
from auriscope.separation.layers import (
    Chunking,
    Decoder,
    DualPathBlock,
    DualPathMasker,
    Encoder,
    GlobalLayerNorm,
    MaskingModel,
)


@dataclass(frozen=True)
class SepFormerConfig:
    """The configuration of SepFormer; the defaults are the paper's (section 3.2).

    ``kernel_size`` and ``stride`` are in samples; ``chunk_size``, in frames, is even, and chunks overlap by half.
    ``num_blocks`` dual-path blocks each hold an intra-transformer of ``num_intra_layers`` layers and an
    inter-transformer of ``num_inter_layers``.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    num_filters: int = 256
    kernel_size: int = 16
    stride: int = 8
    chunk_size: int = 250
    num_blocks: int = 2
    num_intra_layers: int = 8
    num_inter_layers: int = 8
    num_heads: int = 8
    feedforward_size: int = 1024

    def __post_init__(self) -> None:
        if self.chunk_size % 2 or self.chunk_size < 2:
            raise ValueError("chunk_size must be even")
        if self.num_filters % self.num_heads or self.num_filters % 2:
            raise ValueError("num_filters must be even and a multiple of num_heads")


SMALL_16K = SepFormerConfig(
    sample_rate=16000,
    num_filters=128,
    kernel_size=64,
    stride=32,
    chunk_size=64,
    num_blocks=2,
    num_intra_layers=3,
    num_inter_layers=3,
    num_heads=4,
    feedforward_size=512,
)
"""A small network for two talkers at 16 kHz on a CPU: 2.5 M parameters, frames of 4 ms every 2 ms."""


class SepFormer(MaskingModel, name="separation/sepformer"):
    """SepFormer: separation by attention alone, short-term within chunks and long-term across them.

    C. Subakan, M. Ravanelli, S. Cornell, M. Bronzi, J. Zhong, "Attention is All You Need in Speech Separation",
    ICASSP 2021, arXiv 2010.13154; section 2.

    Published: SI-SNRi 22.3 dB, SDRi 22.4 dB on WSJ0-2Mix (with dynamic mixing); 19.5 dB, 19.7 dB on WSJ0-3Mix;
    26 M parameters (25.68 M here). Equal to SpeechBrain's ``SepformerWrapper`` with the same weights.
    """

    Config = SepFormerConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 16,
        "chunk_size": 10,
        "num_blocks": 1,
        "num_intra_layers": 1,
        "num_inter_layers": 1,
        "num_heads": 2,
        "feedforward_size": 32,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 22.3,
        "SDRi on WSJ0-2Mix (dB)": 22.4,
        "SI-SNRi on WSJ0-3Mix (dB)": 19.5,
        "SDRi on WSJ0-3Mix (dB)": 19.7,
        "SI-SNRi on WHAM! (dB)": 16.4,
        "SI-SNRi on WHAMR! (dB)": 14.0,
        "SI-SNRi on Libri2Mix (dB)": 20.2,
        "parameters (million)": 26.0,
    }

    def __init__(self, config: SepFormerConfig) -> None:
        filters = (config.num_filters, config.kernel_size, config.stride)
        blocks = (
            DualPathBlock(
                TransformerPath(config, config.num_intra_layers),
                TransformerPath(config, config.num_inter_layers),
                GlobalLayerNorm(config.num_filters, channels_last=True),
                GlobalLayerNorm(config.num_filters, channels_last=True),
            )
            for _ in range(config.num_blocks)
        )
        half = config.chunk_size // 2
        masker = DualPathMasker(
            blocks,
            Chunking(config.chunk_size, half, padding=half, in_pairs=True),
            GlobalLayerNorm(config.num_filters, channels_last=True),
            num_filters=config.num_filters,
            num_channels=config.num_filters,
            num_sources=config.num_sources,
            bottleneck_bias=False,
            mask_activation="relu",
        )
        super().__init__(config, Encoder(*filters, activation="relu"), masker, Decoder(*filters))


class TransformerSizes(Protocol):
    """What a transformer takes from a system's configuration."""

    @property
    def num_filters(self) -> int:
        """Channels of the sequences."""

    @property
    def num_heads(self) -> int:
        """Attention heads, which share the channels."""

    @property
    def feedforward_size(self) -> int:
        """Hidden channels of the feed-forward network."""


class TransformerPath(nn.Module):
    """A pre-norm transformer encoder with sinusoidal positions (section 2.2.2, equations 5 to 8)."""

    slice_positions = 4096

    def __init__(self, config: TransformerSizes, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(num_layers))
        self.norm = nn.LayerNorm(config.num_filters, eps=1e-6)

    def forward(self, sequences: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map sequences (M, T, C), of which ``lengths`` (M,) positions are valid, to the same shape."""
        _, num_positions, channels = sequences.shape
        mask = None if lengths is None else length_mask(lengths, num_positions)[:, None, None]
        x = sequences + sinusoids(num_positions, channels, sequences.device).to(sequences.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        normalised: Tensor = self.norm(x)
        return normalised


class TransformerLayer(nn.Module):
    """Self-attention, then a feed-forward network with ReLU, each normalised before and added to its input."""

    def __init__(self, config: TransformerSizes) -> None:
        super().__init__()
        channels = config.num_filters
        self.num_heads = config.num_heads
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.feedforward1 = nn.Linear(channels, config.feedforward_size)
        self.feedforward2 = nn.Linear(config.feedforward_size, channels)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map sequences (M, T, C) to the same shape; ``mask`` (M, 1, 1, T) marks the keys that may be attended to."""
        # (M, T, 3C) to three times (M, heads, T, C / heads): views only, and no attention map is ever stored.
        projected = project(self.qkv, self.norm1(x)).view(*x.shape[:2], 3, self.num_heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = project(self.out, attended.transpose(1, 2).flatten(2)).add_(x)
        hidden = F.relu(project(self.feedforward1, self.norm2(x)), inplace=True)
        return project(self.feedforward2, hidden).add_(x)


def sinusoids(num_positions: int, channels: int, device: torch.device) -> Tensor:
    """Sinusoidal positions (num_positions, channels): sines at even channels, cosines at odd ones.

    A. Vaswani et al., "Attention is All You Need", arXiv 1706.03762, section 3.5.
    """
    rates = torch.exp(torch.arange(0, channels, 2, device=device).float() * (-math.log(10000.0) / channels))
    angles = torch.arange(num_positions, device=device).float()[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
