"""CNN14: six pairs of 3 x 3 convolutions over log-mel features, the trunk of PANNs.

Q. Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition" (arXiv 1912.10211),
table 1. Left out of it, as in SpeechBrain's ``Cnn14``: the linear layer between the pooled map and the classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask

CHANNELS = (64, 128, 256, 512, 1024, 2048)


class MapNorm(nn.BatchNorm2d):
    """A batch norm of maps (batch, channels, frames, bins), whose statistics are of the valid frames alone."""

    def forward(self, x: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Normalise every channel over all recordings, frames and bins, in training, or by what training has seen."""
        if not self.training or frame_lengths is None:
            return super().forward(x)
        valid = length_mask(frame_lengths, x.shape[2])
        frames = x.transpose(1, 2)
        normed = torch.zeros_like(frames)
        normed[valid] = super().forward(frames[valid][:, :, None])[:, :, 0]
        return normed.transpose(1, 2)


def blank_behind(x: Tensor, frame_lengths: Tensor | None) -> Tensor:
    """Set what lies behind the valid frames of maps (batch, channels, frames, bins) to zero; None: all are valid."""
    if frame_lengths is None:
        return x
    return torch.where(length_mask(frame_lengths, x.shape[2])[:, None, :, None], x, 0.0)


def mean_and_max(x: Tensor, frame_lengths: Tensor | None) -> Tensor:
    """Mean over bins, then mean plus highest over valid frames, of maps (batch, channels, frames, bins)."""
    frames = x.mean(3)
    if frame_lengths is None:
        return frames.amax(2) + frames.mean(2)
    valid = length_mask(frame_lengths, x.shape[2])[:, None]
    highest = torch.where(valid, frames, -torch.inf).amax(2)
    return highest + torch.where(valid, frames, 0.0).sum(2) / frame_lengths[:, None]


class ConvBlock(nn.Module):
    """Two convolutions of 3 x 3, each with a batch norm and ReLU, and a mean over ``pool`` x ``pool``."""

    def __init__(self, in_channels: int, out_channels: int, pool: int) -> None:
        super().__init__()
        self.pool = pool
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = MapNorm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = MapNorm(out_channels)
        for conv in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, x: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Maps (batch, in_channels, frames, bins), with zeros behind the valid frames, to maps 1 / pool as large."""
        x = blank_behind(F.relu(self.norm1(self.conv1(x), frame_lengths)), frame_lengths)
        x = blank_behind(F.relu(self.norm2(self.conv2(x), frame_lengths)), frame_lengths)
        x = x if self.pool == 1 else F.avg_pool2d(x, self.pool)
        return blank_behind(x, self.pooled(frame_lengths))

    def pooled(self, frame_lengths: Tensor | None) -> Tensor | None:
        """How many frames (batch,) are valid behind the block."""
        return None if frame_lengths is None else frame_lengths // self.pool


class CNN14(nn.Module):
    """Features (batch, frames, num_bins) to the maps of six stages and an embedding (batch, channels[-1]).

    Every stage but the last halves frames and bins, rounding down; recordings of less than ``min_frames`` are taken to
    be followed by zeros. ``dropout`` follows every stage, as in the paper.
    """

    def __init__(self, num_bins: int, channels: tuple[int, ...] = CHANNELS, dropout: float = 0.2) -> None:
        super().__init__()
        self.dropout, self.min_frames = dropout, 2 ** (len(channels) - 1)
        if num_bins < self.min_frames:
            raise ValueError(f"CNN14 with {len(channels)} stages needs at least {self.min_frames} bins, not {num_bins}")
        self.norm = MapNorm(num_bins)
        self.blocks = nn.ModuleList(
            ConvBlock(before, after, 1 if index == len(channels) - 1 else 2)
            for index, (before, after) in enumerate(zip((1, *channels), channels, strict=False))
        )

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps (batch, channels, frames, bins), earliest first, and embeddings; None: every frame is valid."""
        missing = max(0, self.min_frames - features.shape[1])
        x = F.pad(features, (0, 0, 0, missing))[:, None]
        if frame_lengths is not None:
            frame_lengths = frame_lengths.clamp_min(self.min_frames)
        # Every bin is normed by itself: bins take the place of channels.
        x = blank_behind(self.norm(x.transpose(1, 3), frame_lengths).transpose(1, 3), frame_lengths)
        maps = []
        for block in self.blocks:
            x = block(x, frame_lengths)
            frame_lengths = block.pooled(frame_lengths)  # type: ignore[operator]  # a ConvBlock's
            maps.append(x)
            x = F.dropout(x, self.dropout, self.training)
        return tuple(maps), mean_and_max(x, frame_lengths)
