"""What SpeechBrain's recognisers begin with: mels at the statistics of the training, and mirrored convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.signal.features import make_features


class StandardMels(nn.Module):
    """SpeechBrain's log-mel features, less the ``mean`` of the training set's and divided by their ``std``.

    Waveforms (batch, time) give (batch, frames, num_mels), zeros behind the ends, and frame lengths (batch,).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sample_rate: int, num_mels: int) -> None:
        super().__init__()
        self.hop_length = sample_rate // 100
        self.mels = make_features(
            "speechbrain",
            sample_rate=sample_rate,
            num_mels=num_mels,
            hop_length=self.hop_length,
            window_length=sample_rate // 40,
            fft_length=max(400, sample_rate // 40),
        )
        # Before training they are what speech has about: decibels between the floor and 80 above it.
        self.register_buffer("mean", torch.full((num_mels,), -30.0))
        self.register_buffer("std", torch.full((num_mels,), 20.0))

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute features (batch, frames, num_mels) and frame lengths (batch,)."""
        features, frame_lengths = self.mels(waveform, lengths)
        valid = torch.arange(features.shape[1], device=features.device) < frame_lengths[:, None]
        return (features - self.mean) / self.std.clamp_min(1e-10) * valid[..., None], frame_lengths


class MirroredConv2d(nn.Module):
    """A convolution over (batch, frames, mels, channels) that sees each recording mirrored at its two ends.

    ``kernel_size`` is odd, in frames and mels alike, as is ``stride``; a recording of n frames keeps ceil(n / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} must be odd")
        self.padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve, and give the new lengths (batch,)."""
        padding, stride = self.padding, self.conv.stride[0]
        if padding:
            places = torch.arange(-padding, x.shape[1] + padding, device=x.device)
            # To and fro, if a recording is shorter than what is padded.
            period = (2 * (lengths - 1)).clamp_min(1)[:, None]
            index = places % period
            index = torch.minimum(index, period - index).clamp_max(x.shape[1] - 1)
            x = x[torch.arange(len(x), device=x.device)[:, None], index]
            x = F.pad(x.permute(0, 3, 1, 2), (padding, padding, 0, 0), mode="reflect").permute(0, 2, 3, 1)
        # The kernel's first axis is that of the mels, as in SpeechBrain's weights.
        y = self.conv(x.transpose(1, 3)).transpose(1, 3)
        return y, (lengths + stride - 1) // stride
