"""Sample rate conversion of tensors, differentiable, by julius; ``rates`` converts arrays and streams without torch."""

from __future__ import annotations

import torch
from julius.resample import resample_frac

from auriscope.signal.rates import resampled_length


def resample(waveform: torch.Tensor, orig_rate: int, new_rate: int) -> torch.Tensor:
    """Convert the sample rate of a batch of signals by windowed-sinc interpolation, differentiably.

    Args:
        waveform: (..., time) float.
        orig_rate: its rate in hertz.
        new_rate: the wanted rate in hertz.

    Returns:
        (..., resampled_length(time)) of the same type, time-aligned with the input. Beyond its ends the signal is held
        at its first and last value.

    Source: Smith, Digital Audio Resampling, https://ccrma.stanford.edu/~jos/resample; julius.ResampleFrac with 64 zero
    crossings.
    """
    if orig_rate == new_rate:
        return waveform
    length = resampled_length(waveform.shape[-1], orig_rate, new_rate)
    converted: torch.Tensor = resample_frac(waveform, orig_rate, new_rate, zeros=64, output_length=length)
    return converted
