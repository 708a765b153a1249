"""The Conformer: self-attention for what is far, convolution for what is near, in every block.

A. Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition" (arXiv 2005.08100), section 2.
Positions are told by rotating queries and keys (J. Su et al., arXiv 2104.09864), which like the paper's relative
encoding depends on distances alone, and costs no attention map; the convolution's batch normalisation is a layer
normalisation, so that padding and the other examples of a batch change nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask


class Subsampling(nn.Module):
    """Two convolutions over time and mels that leave a quarter of the frames: (batch, frames, mels) to (…, dim)."""

    def __init__(self, num_mels: int, dim: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.project = nn.Linear(channels * -(-num_mels // 4), dim)

    def forward(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Give (batch, quarter of the frames, dim) and their number for each example."""
        hidden = features[:, None]
        for layer in (self.first, self.second):
            hidden = F.silu(layer(hidden))
            frame_lengths = (frame_lengths + 1) // 2
            hidden = hidden * length_mask(frame_lengths, hidden.shape[2])[:, None, :, None]
        return self.project(hidden.transpose(1, 2).flatten(2)), frame_lengths


def rotary(frames: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (frames, width / 2) by which positions rotate queries and keys; equation 34 of the paper."""
    rates = 10_000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angles = torch.arange(frames, device=device, dtype=torch.float32)[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate pairs of channels of (…, frames, width)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1).to(x.dtype)


class _Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None, turns: tuple[Tensor, Tensor]) -> Tensor:
        batch, frames, dim = x.shape
        heads = self.project(self.norm(x)).reshape(batch, frames, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = rotate(heads[0], *turns), rotate(heads[1], *turns), heads[2]
        mixed = F.scaled_dot_product_attention(query, key, value, mask)
        attended: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, frames, dim))
        return attended


class _Convolution(nn.Module):
    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.middle = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        hidden = F.glu(self.expand(self.norm(x)), dim=-1)
        if valid is not None:
            hidden = hidden * valid
        hidden = self.depthwise(hidden.mT).mT
        convolved: Tensor = self.out(F.silu(self.middle(hidden)))
        return convolved


def _feed_forward(dim: int, expansion: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, expansion * dim), nn.SiLU(), nn.Linear(expansion * dim, dim))


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer; each beside a residual path."""

    def __init__(self, dim: int, num_heads: int, kernel_size: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.first = _feed_forward(dim, expansion)
        self.attention = _Attention(dim, num_heads)
        self.convolution = _Convolution(dim, kernel_size)
        self.second = _feed_forward(dim, expansion)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, valid: Tensor | None, turns: tuple[Tensor, Tensor]) -> Tensor:
        """Go from (batch, frames, dim) to as much."""
        x = x + 0.5 * self.dropout(self.first(x))
        x = x + self.dropout(self.attention(x, mask, turns))
        x = x + self.dropout(self.convolution(x, valid))
        x = x + 0.5 * self.dropout(self.second(x))
        normed: Tensor = self.norm(x)
        return normed


class Conformer(nn.Module):
    """A Conformer encoder over features: a frame of it for every four of theirs.

    Args:
        num_mels: channels of the features.
        dim: channels of the blocks; a multiple of twice ``num_heads``.
        num_layers: number of blocks.
        num_heads: of each block's attention.
        kernel_size: frames that each block's convolution spans, odd.
        expansion: of the feed-forward layers.
        dropout: probability, of what each branch adds; within the branches there is none, as on a CPU it would take
            a third of the time of training.
        channels: of the two convolutions that subsample.
    """

    subsampling_factor = 4

    def __init__(
        self,
        num_mels: int,
        dim: int,
        *,
        num_layers: int,
        num_heads: int,
        kernel_size: int = 15,
        expansion: int = 4,
        dropout: float = 0.1,
        channels: int = 32,
    ) -> None:
        super().__init__()
        if dim % (2 * num_heads):
            raise ValueError(f"dim {dim} must be a multiple of twice num_heads {num_heads}")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} must be odd")
        self.head_width = dim // num_heads
        self.subsampling = Subsampling(num_mels, dim, channels)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            ConformerBlock(dim, num_heads, kernel_size, expansion, dropout) for _ in range(num_layers)
        )

    def forward(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features (batch, frames, num_mels) into states (batch, frames / 4, dim), zeros behind the ends."""
        x, frame_lengths = self.subsampling(features, frame_lengths)
        x = self.dropout(x)
        frames = x.shape[1]
        mask, valid = None, None
        if not torch.compiler.is_exporting() and bool((frame_lengths < frames).any()):
            there = length_mask(frame_lengths, frames)
            mask, valid = there[:, None, None, :], there[..., None]
        turns = rotary(frames, self.head_width, x.device)
        for block in self.blocks:
            x = block(x, mask, valid, turns)
        return (x if valid is None else x * valid), frame_lengths
