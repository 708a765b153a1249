"""A layer of time-delay neural networks: a convolution over frames, an activation, a batch norm.

A. Waibel et al., "Phoneme recognition using time-delay neural networks", IEEE Trans. ASSP 37(3), 1989; the batch norm
after the activation, and frames mirrored at the ends, are those of SpeechBrain's speaker models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask, mirror
from auriscope.nn.packed import PackedLinear, packable


class FrameNorm(nn.BatchNorm1d):
    """A batch norm of frames (batch, channels, frames), whose statistics are of the valid frames alone."""

    def forward(self, x: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Normalise every channel over all recordings and frames, in training, or by what training has seen."""
        if not self.training or frame_lengths is None:
            return super().forward(x)
        valid = length_mask(frame_lengths, x.shape[2])
        normed = torch.zeros_like(x.mT)
        normed[valid] = super().forward(x.mT[valid])
        return normed.mT


class TDNN(nn.Module):
    """A convolution over frames mirrored at the ends, an activation ("relu" or "leaky_relu"), and a batch norm.

    :meth:`forward` takes (batch, channels, frames); :meth:`quick` computes the same outside training, for recordings of
    one length, channels last. ``kernel_size`` is odd. With ``stride`` s, n frames give ceil(n / s).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        dilation: int = 1,
        *,
        stride: int = 1,
        activation: Literal["relu", "leaky_relu"] = "relu",
        norm: bool = True,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} must be odd")
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, stride, dilation=dilation)
        self.activation = activation
        self.norm = FrameNorm(out_channels) if norm else None
        self._packed = PackedLinear()

    @property
    def reach(self) -> int:
        """How many frames it hears on either side."""
        return self.conv.dilation[0] * (self.conv.kernel_size[0] // 2)

    def forward(self, x: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Frames (batch, in_channels, frames) to (batch, out_channels, ceil(frames / stride)); None: all are valid."""
        if self.reach:
            x = mirror(x, self.reach, frame_lengths)
        y = pointwise(x, self.conv) if self.conv.kernel_size[0] == 1 else self.conv(x)
        y = F.relu(y) if self.activation == "relu" else F.leaky_relu(y)
        return self.normed(y, None if frame_lengths is None else strided(frame_lengths, self.conv.stride[0]))

    def normed(self, y: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Normalise what was activated, (batch, out_channels, frames)."""
        return y if self.norm is None else self.norm(y, frame_lengths)

    def quick(self, x: Tensor) -> Tensor:
        """The same of frames (batch, frames, in_channels) that are ``packable`` and all valid, outside training."""
        kernel_size, stride, dilation = self.conv.kernel_size[0], self.conv.stride[0], self.conv.dilation[0]
        if kernel_size > 1:
            padded = mirror(x.mT, self.reach).mT
            number = (x.shape[1] - 1) // stride + 1
            last = (number - 1) * stride + 1
            taps = [padded[:, first : first + last : stride] for first in range(0, 2 * self.reach + 1, dilation)]
            # In the order of the weights, (outputs, inputs, taps).
            x = torch.stack(taps, -1).flatten(2)
        relu = self.activation == "relu"
        y = self._packed(x, self.conv.weight, self.conv.bias, "relu" if relu else "none")
        y = y if relu else F.leaky_relu_(y)
        if self.norm is None:
            return y
        scale, shift = self.affine_terms()
        return y.mul_(scale).add_(shift)

    def affine_terms(self) -> tuple[Tensor, Tensor]:
        """What the norm multiplies every channel by and raises it by outside training, each (out_channels,)."""
        assert self.norm is not None
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        return scale, self.norm.bias - self.norm.running_mean * scale


def xvector_blocks(num_inputs: int, channels: int, pooled_channels: int, stride: int = 1) -> nn.ModuleList:
    """The five layers of an x-vector network, which hear 5 frames, 3 two apart, 3 three apart, and 1 frame twice.

    D. Snyder et al., "X-vectors", ICASSP 2018, table 1. The first has the ``stride``, the last ``pooled_channels``.
    """
    return nn.ModuleList(
        TDNN(
            num_inputs if index == 0 else channels,
            pooled_channels if index == 4 else channels,
            kernel_size,
            dilation,
            stride=stride if index == 0 else 1,
            activation="leaky_relu",
        )
        for index, (kernel_size, dilation) in enumerate(((5, 1), (3, 2), (3, 3), (1, 1), (1, 1)))
    )


def through_blocks(
    blocks: Iterable[nn.Module], features: Tensor, frame_lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Take features (batch, frames, channels) through layers: (batch, channels, frames), and how many are valid."""
    layers = cast(list[TDNN], list(blocks))
    if frame_lengths is None and not layers[0].training and packable(features, layers[0].conv.weight):
        for layer in layers:
            features = layer.quick(features)
        return features.mT, None
    x = features.mT
    for layer in layers:
        x = layer(x, frame_lengths)
        frame_lengths = None if frame_lengths is None else strided(frame_lengths, layer.conv.stride[0])
    return x, frame_lengths


def pointwise(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """Apply a convolution of one tap to (batch, channels, frames).

    With a single thread torch hands what has one tap and no dilation to MKL, as :mod:`auriscope.nn.packed` says; what
    one tap hears is the same with any dilation.
    """
    return F.conv1d(x, conv.weight, conv.bias, conv.stride, dilation=2)


def strided(frame_lengths: Tensor, stride: int) -> Tensor:
    """Number of frames (batch,) that a layer of this stride leaves of so many."""
    return (frame_lengths + stride - 1) // stride
