"""Mel filterbanks on the Slaney and HTK scales, and log-mel features."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch

from auriscope.signal.stft import PadMode, make_window, power_of, stft

MelScale = Literal["slaney", "htk"]
MelNorm = Literal["slaney", "none"]

# Slaney's scale (Auditory Toolbox, 1998): linear up to 1 kHz, which is 15 mel, then 27 mel for a factor of 6.4.
_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0


def hz_to_mel(frequency: torch.Tensor, scale: MelScale = "slaney") -> torch.Tensor:
    """Turn frequencies in hertz, of any shape, into mel.

    Source: "slaney": Auditory Toolbox (1998); "htk": The HTK Book, section 5.4, 2595 log10(1 + f / 700).
    """
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + frequency / 700.0)
    curved = _BREAK_MEL + torch.log(frequency.clamp_min(_BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return torch.where(frequency < _BREAK_HZ, frequency / _HZ_PER_MEL, curved)


def mel_to_hz(mel: torch.Tensor, scale: MelScale = "slaney") -> torch.Tensor:
    """Turn mel, of any shape, into frequencies in hertz: the inverse of ``hz_to_mel``."""
    if scale == "htk":
        return 700.0 * (torch.pow(10.0, mel / 2595.0) - 1.0)
    curved = _BREAK_HZ * torch.exp(_LOG_STEP * (mel.clamp_min(_BREAK_MEL) - _BREAK_MEL))
    return torch.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, curved)


@lru_cache(maxsize=16)
def mel_filterbank(
    sample_rate: int,
    fft_length: int,
    num_mels: int,
    *,
    min_hz: float = 0.0,
    max_hz: float | None = None,
    scale: MelScale = "slaney",
    norm: MelNorm = "slaney",
) -> torch.Tensor:
    """Make triangular filters that are equally spaced in mel and overlap by half.

    Args:
        sample_rate: in hertz.
        fft_length: length of the transform whose frequencies are weighted.
        num_mels: number of filters.
        min_hz: lower edge of the first filter.
        max_hz: upper edge of the last filter; by default half the sample rate.
        scale: "slaney" or "htk".
        norm: "slaney" gives each triangle the area 1 over its width in hertz; "none" leaves its height at 1.

    Returns:
        (num_mels, fft_length // 2 + 1) float32, kept for the next call; do not change it in place. Equal to
        librosa.filters.mel.
    """
    frequencies = torch.linspace(0.0, sample_rate / 2.0, fft_length // 2 + 1, dtype=torch.float64)
    if fft_length % 2:
        frequencies = torch.arange(fft_length // 2 + 1, dtype=torch.float64) * sample_rate / fft_length
    edges = _edges(sample_rate, num_mels, min_hz, max_hz, scale)
    lower, middle, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - lower) / (middle - lower)
    falling = (upper - frequencies) / (upper - middle)
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    if norm == "slaney":
        filters = filters * (2.0 / (upper - lower))
    return filters.float()


@lru_cache(maxsize=16)
def symmetric_filterbank(
    sample_rate: int, fft_length: int, num_mels: int, *, min_hz: float = 0.0, max_hz: float | None = None
) -> torch.Tensor:
    """Make triangles as SpeechBrain does: on the HTK scale, falling over as many hertz as they rise, 1 high.

    A falling side should end where the next triangle has its middle, which on a mel scale is further away; published
    weights of SpeechBrain have heard it so. Arguments and shape are those of :func:`mel_filterbank`. Source: its
    ``speechbrain.processing.features.Filterbank``.
    """
    # In float32 and in its order, as near the edges of a triangle rounding shows in decibels.
    max_hz = _highest(sample_rate, min_hz, max_hz)
    lowest, highest = (2595.0 * math.log10(1.0 + hz / 700.0) for hz in (min_hz, max_hz))
    edges = mel_to_hz(torch.linspace(lowest, highest, num_mels + 2), "htk")
    lower, middle = edges[:-2, None], edges[1:-1, None]
    slope = (torch.linspace(0.0, sample_rate // 2, fft_length // 2 + 1) - middle) / (middle - lower)
    return torch.minimum(slope + 1.0, 1.0 - slope).clamp_min(0.0)


@lru_cache(maxsize=16)
def kaldi_filterbank(
    sample_rate: int, fft_length: int, num_mels: int, *, min_hz: float = 20.0, max_hz: float | None = None
) -> torch.Tensor:
    """Make triangles as Kaldi does: straight lines over mel instead of hertz, 1 high, the highest frequency left out.

    Arguments and shape are those of :func:`mel_filterbank`. Source: Kaldi's ``feat/mel-computations.cc``.
    """
    edges = hz_to_mel(_edges(sample_rate, num_mels, min_hz, max_hz, "htk"), "htk")
    frequencies = torch.arange(fft_length // 2 + 1, dtype=torch.float64) * sample_rate / fft_length
    mels = hz_to_mel(frequencies, "htk")
    lower, middle, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = torch.minimum((mels - lower) / (middle - lower), (upper - mels) / (upper - middle)).clamp_min(0.0)
    filters[:, -1] = 0.0
    return filters.float()


def _edges(sample_rate: int, num_mels: int, min_hz: float, max_hz: float | None, scale: MelScale) -> torch.Tensor:
    """Give the edges of the filters in hertz, (num_mels + 2,) float64, equally spaced in mel."""
    limits = hz_to_mel(torch.tensor([min_hz, _highest(sample_rate, min_hz, max_hz)], dtype=torch.float64), scale)
    return mel_to_hz(torch.linspace(float(limits[0]), float(limits[1]), num_mels + 2, dtype=torch.float64), scale)


def _highest(sample_rate: int, min_hz: float, max_hz: float | None) -> float:
    """Give the upper edge of the last filter, if the edges are in order."""
    max_hz = sample_rate / 2.0 if max_hz is None else max_hz
    if not 0 <= min_hz < max_hz:
        raise ValueError(f"the filters need 0 <= min_hz < max_hz, not {min_hz} and {max_hz}")
    return max_hz


def log_mel(
    waveform: torch.Tensor,
    sample_rate: int,
    *,
    num_mels: int = 80,
    window_length: int = 400,
    hop_length: int = 160,
    fft_length: int | None = None,
    min_hz: float = 0.0,
    max_hz: float | None = None,
    scale: MelScale = "slaney",
    norm: MelNorm = "slaney",
    floor: float = 1e-10,
    pad_mode: PadMode = "constant",
) -> torch.Tensor:
    """Compute log-mel features: the power spectrum, weighted by mel filters, in decibels.

    Args:
        waveform: (..., time) float.
        sample_rate: in hertz.
        num_mels: number of filters.
        window_length: length of the Hann window in samples.
        hop_length: step between frames in samples.
        fft_length: length of the transform; by default the window's.
        min_hz: lower edge of the first filter.
        max_hz: upper edge of the last filter; by default half the sample rate.
        scale: "slaney" or "htk".
        norm: "slaney" or "none".
        floor: smallest power that is told apart, the default -100 dB.
        pad_mode: with what to pad at the start, as in ``stft``.

    Returns:
        features (..., frames, num_mels), 10 log10 of the power; frames = 1 + time // hop_length, frame k centred at
        sample k * hop_length. Equal to librosa's melspectrogram and power_to_db (ref 1, no top_db).
    """
    fft_length = fft_length or window_length
    window = make_window("hann", window_length)
    spectrum = stft(waveform, window, hop_length, fft_length=fft_length, pad_mode=pad_mode)
    power = power_of(spectrum[..., : 1 + waveform.shape[-1] // hop_length])
    filters = mel_filterbank(
        sample_rate, fft_length, num_mels, min_hz=min_hz, max_hz=max_hz, scale=scale, norm=norm
    ).to(power)
    return 10.0 * torch.log10((filters @ power).clamp_min(floor)).transpose(-1, -2)
