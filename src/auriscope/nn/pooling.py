"""From frames to one vector: means and deviations of every channel, plain or weighted by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask
from auriscope.nn.packed import PackedLinear
from auriscope.nn.tdnn import TDNN, pointwise

_SMALLEST_VARIANCE = 1e-12


def valid_mean(x: Tensor, frame_lengths: Tensor | None) -> Tensor:
    """Mean over the valid frames of (batch, channels, frames), (batch, channels, 1)."""
    if frame_lengths is None:
        return x.mean(2, keepdim=True)
    valid = length_mask(frame_lengths, x.shape[2])[:, None]
    return torch.where(valid, x, 0.0).sum(2, keepdim=True) / frame_lengths[:, None, None]


class StatisticsPooling(nn.Module):
    """Mean and standard deviation of every channel over the frames, one after the other: (batch, 2 channels).

    D. Snyder et al., "X-vectors", ICASSP 2018, section 2.2. The deviation is that of a sample, plus ``eps``, as in
    SpeechBrain, whose means have random noise besides; of a single frame it is ``eps``.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Pool (batch, channels, frames)."""
        mean = valid_mean(x, frame_lengths)
        if frame_lengths is None:
            number, difference = x.new_tensor(float(x.shape[2])), x - mean
        else:
            number = frame_lengths[:, None].to(x)
            difference = torch.where(length_mask(frame_lengths, x.shape[2])[:, None], x - mean, 0.0)
        variance = difference.square().sum(2) / (number - 1.0).clamp_min(1.0)
        # The root of zero has no gradient.
        return torch.cat((mean[..., 0], variance.clamp_min(_SMALLEST_VARIANCE).sqrt() + self.eps), 1)


class AttentiveStatisticsPooling(nn.Module):
    """Means and deviations over the frames, each channel with weights of its own: (batch, 2 channels).

    What a frame weighs is told from the frame and from the plain mean and deviation of the whole recording.
    B. Desplanques et al. (arXiv 2005.07143), section 3.1, equations 1 to 4.
    """

    def __init__(self, num_channels: int, attention_channels: int = 128) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.tdnn = TDNN(3 * num_channels, attention_channels)
        self.conv = nn.Conv1d(attention_channels, num_channels, 1)
        self._packed = PackedLinear(), PackedLinear()

    def forward(self, x: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Pool (batch, channels, frames)."""
        valid = None if frame_lengths is None else length_mask(frame_lengths, x.shape[2])[:, None]
        weights = torch.ones_like(x[:, :1]) if valid is None else valid.to(x)
        of_frame = self.tdnn.conv.weight[:, : self.num_channels]
        hidden = F.conv1d(x, of_frame, dilation=2) + self._of_recording(x, weights, 2)[..., None]
        scores = pointwise(self.tdnn.normed(F.relu(hidden), frame_lengths).tanh(), self.conv)
        if valid is not None:
            scores = scores.masked_fill(~valid, -torch.inf)
        return torch.cat(_weighted(x, scores.softmax(2), 2), 1)

    def quick(self, x: Tensor) -> Tensor:
        """The same of frames (batch, frames, channels) that are ``packable`` and all valid, outside training."""
        hidden = self._packed[0](x, self.tdnn.conv.weight, None)
        hidden = hidden.add_(self._of_recording(x, torch.ones_like(x[..., :1]), 1)[:, None]).relu_()
        scale, shift = self.tdnn.affine_terms()
        scores = self._packed[1](hidden.mul_(scale).add_(shift).tanh_(), self.conv.weight, self.conv.bias)
        return torch.cat(_weighted(x, scores.softmax(1), 1), 1)

    def _of_recording(self, x: Tensor, weights: Tensor, dim: int) -> Tensor:
        """What the whole recording adds to the layer's sums at every frame, (batch, attention channels)."""
        statistics = torch.cat(_weighted(x, weights / weights.sum(dim, keepdim=True), dim), 1)
        return F.linear(statistics, self.tdnn.conv.weight[:, self.num_channels :, 0], self.tdnn.conv.bias)


def _weighted(x: Tensor, weights: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation over the frames, which are dimension ``dim``, by weights that sum to one."""
    mean = (weights * x).sum(dim, keepdim=True)
    variance = (weights * (x - mean).square()).sum(dim)
    return mean.squeeze(dim), variance.clamp_min(_SMALLEST_VARIANCE).sqrt()
