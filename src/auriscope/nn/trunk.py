"""Residual stages of 3 x 3 convolutions, the trunk of our small encoders and classifiers of sounds and images.

K. He et al., "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 3.3, with one residual pair per
stage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.cnn14 import MapNorm, blank_behind


class Convolution(nn.Module):
    """A convolution of 3 x 3 and a batch norm; with ``stride`` s, n rows or columns give ceil(n / s)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm = MapNorm(out_channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Maps (batch, in_channels, height, width), of which ``lengths`` rows of the output are valid."""
        if self.training or torch.is_grad_enabled():
            y: Tensor = self.norm(self.conv(x), lengths)
            return y
        # The norm is a scale and a shift of every channel then, which the convolution does on its way.
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        shift = self.norm.bias - self.norm.running_mean * scale
        return F.conv2d(x, self.conv.weight * scale[:, None, None, None], shift, self.conv.stride, padding=1)


class Stage(nn.Module):
    """A convolution with ``stride``, and a residual pair of convolutions behind it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.enter = Convolution(in_channels, out_channels, stride)
        self.first = Convolution(out_channels, out_channels)
        self.second = Convolution(out_channels, out_channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Maps (batch, in_channels, height, width), with zeros behind the valid rows, to smaller ones, likewise."""
        lengths = self.left(lengths)
        x = blank_behind(F.relu(self.enter(x, lengths)), lengths)
        y = blank_behind(F.relu(self.first(x, lengths)), lengths)
        return blank_behind(F.relu(x + self.second(y, lengths)), lengths)

    def left(self, lengths: Tensor | None) -> Tensor | None:
        """How many rows (batch,) are valid behind the stage."""
        return None if lengths is None else (lengths + self.stride - 1) // self.stride


class Trunk(nn.Module):
    """Maps (batch, in_channels, height, width) to the maps of the stages, each with the stride of the same place."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Stage(before, after, stride)
            for before, after, stride in zip((in_channels, *channels), channels, strides, strict=False)
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """The maps of all stages, earliest first, and how many rows (batch,) of the last are valid."""
        maps = []
        for stage in self.stages:
            x = stage(x, lengths)
            lengths = stage.left(lengths)  # type: ignore[operator]  # a Stage's
            maps.append(x)
        return tuple(maps), lengths


def check_stages(channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless every stage has a number of channels and a stride."""
    if not channels or len(strides) != len(channels) or min(*channels, *strides) < 1:
        raise ValueError("channels and strides must be as many, at least one, and all at least 1")
