"""Distances between spectra, for training: they hear what the SI-SNR does not weigh, level and weak components."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from auriscope.signal.stft import make_window, power_of, stft

POWER = 0.3
_FLOOR = 1e-5


def compressed_spectral_error(
    estimates: Tensor,
    references: Tensor,
    *,
    level: Tensor,
    window_lengths: Sequence[int] = (256, 512, 1024),
    phase_share: float = 0.3,
) -> Tensor:
    """Mean squared difference of compressed spectra, over several resolutions: 0 for equal signals.

    Magnitudes are raised to the power 0.3, about as loudness grows with them, so that weak components count; a share
    of the error is of the complex spectra, compressed likewise with their phase kept.

    Args:
        estimates: (..., time) float.
        references: (..., time), of the same shape.
        level: (..., 1), RMS level that becomes 1 before the compression, such as the mixture's; above zero.
        window_lengths: of the Hann windows in samples; frames overlap by half.
        phase_share: of the complex error, 0 to 1.

    Returns:
        (...): mean over frequencies, frames and resolutions.

    Source: Braun and Tashev, "A consolidated view of loss functions for supervised deep learning-based speech
    enhancement" (arXiv 2009.12286), section 3, equation 6; the resolutions after Yamamoto et al. (arXiv 1910.11480).
    """
    total = torch.zeros_like(estimates[..., 0])
    for window_length in window_lengths:
        window = make_window("hann", window_length).to(estimates)
        # White noise of RMS level 1 has unit power in every bin of these spectra.
        scale = level[..., None] * window.square().sum().sqrt()
        (first, compressed), (second, target) = (
            _compress(stft(signal, window, window_length // 2) / scale) for signal in (estimates, references)
        )
        magnitude_error = (first - second).square()
        complex_error = (torch.view_as_real(compressed) - torch.view_as_real(target)).square().sum(-1)
        error = (1.0 - phase_share) * magnitude_error + phase_share * complex_error
        total = total + error.mean(dim=(-2, -1)) / len(window_lengths)
    return total


def _compress(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Compressed magnitude, and the spectrum with it; smooth at zero."""
    power = power_of(spectrum) + _FLOOR
    return power ** (POWER / 2.0), spectrum * power ** ((POWER - 1.0) / 2.0)
