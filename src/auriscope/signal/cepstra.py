"""What is made of log-mel features: cepstra, deltas, and features without their mean and deviation.

All work on padded batches: features (batch, frames, channels), of which ``frame_lengths`` (batch,) frames are valid,
give what each recording alone gives, with zeros behind its end.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

DeltaEdges = Literal["fit", "replicate"]


@lru_cache(maxsize=16)
def dct_matrix(num_cepstra: int, num_mels: int) -> Tensor:
    """Make the orthonormal discrete cosine transform of type 2, (num_cepstra, num_mels) float32.

    Row k is ``sqrt(2 / num_mels) cos(pi k (n + 0.5) / num_mels)``, row 0 divided by the square root of two. It is kept
    for the next call: do not change it in place.
    """
    if not 0 < num_cepstra <= num_mels:
        raise ValueError(f"{num_mels} mels give 1 to {num_mels} cepstra, not {num_cepstra}")
    order = torch.arange(num_cepstra, dtype=torch.float64)[:, None]
    matrix = torch.cos(math.pi * order * (torch.arange(num_mels, dtype=torch.float64) + 0.5) / num_mels)
    matrix *= math.sqrt(2.0 / num_mels)
    matrix[0] /= math.sqrt(2.0)
    return matrix.float()


def valid_frames(frame_lengths: Tensor, frames: int) -> Tensor:
    """Mark the valid frames, (batch, frames, 1) bool."""
    return (torch.arange(frames, device=frame_lengths.device) < frame_lengths[:, None])[..., None]


def deltas(
    features: Tensor, frame_lengths: Tensor, *, order: int = 1, width: int = 9, edges: DeltaEdges = "fit"
) -> Tensor:
    """Compute how features change over time: the derivative of a polynomial fitted to ``width`` frames.

    Args:
        features: (batch, frames, channels).
        frame_lengths: (batch,) int64.
        order: of the polynomial and of its derivative.
        width: odd number of frames.
        edges: at the ends, "fit" takes the polynomial of the first or last ``width`` frames; a recording that has
            fewer is treated as by "replicate", which repeats the frame at the end.

    Returns:
        (batch, frames, channels), per frame to the power of ``order``. "fit" equals librosa.feature.delta, "replicate"
        with order 1 and width 5 SpeechBrain's. For order 1 it is the regression of The HTK Book, equation 5.16.

    Raises:
        ValueError: if ``width`` is not odd, or not larger than ``order``.
    """
    if width % 2 == 0 or width <= order:
        raise ValueError(f"deltas of order {order} need an odd width above {order}, not {width}")
    half = width // 2
    powers = torch.arange(-half, half + 1, dtype=torch.float64)[:, None] ** torch.arange(order + 1)
    kernel = (math.factorial(order) * torch.linalg.pinv(powers)[order]).to(features)
    frames = features.shape[1]
    last = (frame_lengths - 1).clamp_min(0)[:, None]
    places = torch.arange(-half, frames + half, device=features.device).clamp_min(0)
    index = torch.minimum(places.expand(len(features), -1), last)
    padded = features.gather(1, index[..., None].expand(-1, -1, features.shape[2])) if frames else features
    slopes = padded.unfold(1, width, 1) @ kernel if frames else features
    if edges == "fit":
        # The highest derivative of the polynomial that is fitted to the ends is the same at all of their frames.
        inside = torch.arange(frames, device=features.device).expand(len(features), -1)
        fitted = torch.minimum(inside.clamp_min(half), last - half)
        inside = torch.where(frame_lengths[:, None] >= width, fitted, inside)
        slopes = slopes.gather(1, inside[..., None].expand_as(slopes))
    return slopes * valid_frames(frame_lengths, frames)


def with_deltas(
    features: Tensor, frame_lengths: Tensor, number: int = 2, *, width: int = 9, edges: DeltaEdges = "fit"
) -> Tensor:
    """Put the first ``number`` derivatives of features behind them, (batch, frames, (1 + number) channels).

    With "fit" the n-th is of order n, as in librosa; with "replicate" it is the delta of the delta, as in HTK and
    SpeechBrain.
    """
    parts = [features]
    for order in range(1, number + 1):
        if edges == "fit":
            parts.append(deltas(features, frame_lengths, order=order, width=width, edges=edges))
        else:
            parts.append(deltas(parts[-1], frame_lengths, width=width, edges=edges))
    return torch.cat(parts, -1)


def mean_and_deviation(features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Compute each recording's mean and standard deviation of every channel, both (batch, 1, channels)."""
    valid = valid_frames(frame_lengths, features.shape[1])
    number = frame_lengths.clamp_min(1)[:, None, None].to(features)
    mean = (features * valid).sum(1, keepdim=True) / number
    variance = ((features - mean).square() * valid).sum(1, keepdim=True) / number
    return mean, variance.sqrt()


def normalize(features: Tensor, frame_lengths: Tensor, *, variance: bool = True, smallest: float = 1e-10) -> Tensor:
    """Take each recording's mean off every channel and, with ``variance``, divide by its standard deviation.

    The deviation is taken for at least ``smallest``. Equal to SpeechBrain's ``InputNormalization("sentence")``.
    """
    mean, deviation = mean_and_deviation(features, frame_lengths)
    features = features - mean
    if variance:
        features = features / deviation.clamp_min(smallest)
    return features * valid_frames(frame_lengths, features.shape[1])


class GlobalNormalization(nn.Module):
    """Mean and standard deviation of a whole corpus, which are saved and loaded with the model that holds them.

    :meth:`update` learns them batch by batch; ``forward`` takes the mean off and, with ``variance``, divides by the
    deviation, which counts for at least ``smallest``. Before the first update nothing is changed. Buffers: ``count``,
    of frames, and ``mean`` and ``deviation`` (num_channels,), SpeechBrain's ``glob_mean`` and ``glob_std``: it is
    equal to its ``InputNormalization("global")``.
    """

    count: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, num_channels: int, *, variance: bool = True, smallest: float = 1e-10) -> None:
        super().__init__()
        self.variance, self.smallest = variance, smallest
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("deviation", torch.ones(num_channels))

    @torch.no_grad()
    def update(self, features: Tensor, frame_lengths: Tensor) -> None:
        """Learn from features (batch, frames, channels) more: the figures become those of all frames seen so far."""
        new = features[valid_frames(frame_lengths, features.shape[1])[..., 0]].double()
        if not len(new):
            return
        total = self.count + len(new)
        old_mean, new_mean = self.mean.double(), new.mean(0)
        # Chan et al., "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
        squares = self.deviation.double().square() * self.count + (new - new_mean).square().sum(0)
        squares += (new_mean - old_mean).square() * self.count * len(new) / total
        self.mean.copy_(old_mean + (new_mean - old_mean) * len(new) / total)
        self.deviation.copy_((squares / total).sqrt())
        self.count.copy_(total)

    def forward(self, features: Tensor, frame_lengths: Tensor) -> Tensor:
        """Normalise features (batch, frames, channels); what lies behind the end is zeros."""
        features = features - self.mean
        if self.variance:
            features = features / self.deviation.clamp_min(self.smallest)
        return features * valid_frames(frame_lengths, features.shape[1])
