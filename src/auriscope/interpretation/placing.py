"""From hidden maps to the input: where a value of a map lies among the input's points."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.signal.mel import hz_to_mel

MelHz = tuple[float, float]
"""The lowest and the highest frequency of a classifier's mels, in hertz."""


def placed(maps: Tensor, size: tuple[int, int], mel_hz: MelHz | None = None, sample_rate: int = 0) -> Tensor:
    """Bring maps (batch, channels, rows, columns) to the ``size`` (height, width) of the input, interpolated linearly.

    Rows and columns are spread evenly over the input. With ``mel_hz`` the columns are mels (on the scale of HTK)
    between these two frequencies, and the input's are bins from 0 Hz to half the ``sample_rate``; bins beyond the mels
    get what the nearest has.
    """
    if mel_hz is None:
        return F.interpolate(maps, size, mode="bilinear", align_corners=False)
    height, width = size
    number = maps.shape[3]
    maps = F.interpolate(maps, (height, number), mode="bilinear", align_corners=False)
    low, high = hz_to_mel(torch.tensor(mel_hz), "htk").tolist()
    mel = hz_to_mel(torch.linspace(0.0, sample_rate / 2, width, device=maps.device), "htk")
    place = ((mel - low) / (high - low) * number - 0.5).clamp(0.0, number - 1.0)
    below = place.long()
    return torch.lerp(maps[..., below], maps[..., (below + 1).clamp(max=number - 1)], place - below)


def check_mel_hz(mel_hz: MelHz | None, sample_rate: int) -> None:
    """Raise ``ValueError`` unless ``mel_hz`` is None, or a lower and a higher frequency of a sound."""
    if mel_hz is not None and not (sample_rate and 0.0 <= mel_hz[0] < mel_hz[1] <= sample_rate / 2):
        raise ValueError("mel_hz must be a lower and a higher frequency, at most half the sample rate of a sound")
