"""The compressed spectral error, against a slow one and against what it is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auriscope.metrics.spectral import compressed_spectral_error

GENERATOR = torch.Generator().manual_seed(0)
REFERENCE = 0.1 * torch.randn(2, 3000, generator=GENERATOR)
ESTIMATE = REFERENCE + 0.05 * torch.randn(2, 3000, generator=GENERATOR)
LEVEL = torch.tensor([[0.1], [0.2]])


def slow(estimate: np.ndarray, reference: np.ndarray, level: float, size: int, share: float) -> float:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    total, count = 0.0, 0
    for centre in range(0, len(estimate) + size // 2, size // 2):
        spectra = []
        for signal in (estimate, reference):
            padded = np.concatenate([np.zeros(size // 2), signal, np.zeros(size)])
            spectra.append(np.fft.rfft(padded[centre : centre + size] * window) / level / np.sqrt(np.sum(window**2)))
        magnitudes = [np.sqrt(np.abs(spectrum) ** 2 + 1e-5) ** 0.3 for spectrum in spectra]
        complexes = [s * np.sqrt(np.abs(s) ** 2 + 1e-5) ** -0.7 for s in spectra]
        error = (1 - share) * (magnitudes[0] - magnitudes[1]) ** 2 + share * np.abs(complexes[0] - complexes[1]) ** 2
        total, count = total + error.sum(), count + len(error)
    return total / count


def test_it_is_the_formula() -> None:
    error = compressed_spectral_error(ESTIMATE, REFERENCE, level=LEVEL, window_lengths=(64, 256), phase_share=0.4)
    for row in range(2):
        signals = ESTIMATE[row].double().numpy(), REFERENCE[row].double().numpy()
        expected = np.mean([slow(*signals, float(LEVEL[row]), size, 0.4) for size in (64, 256)])
        assert float(error[row]) == pytest.approx(expected, rel=1e-4)


def test_it_hears_levels_and_silence() -> None:
    assert not compressed_spectral_error(REFERENCE, REFERENCE, level=LEVEL).any()
    assert (compressed_spectral_error(0.5 * REFERENCE, REFERENCE, level=LEVEL) > 0.01).all()
    silent = torch.zeros_like(REFERENCE)
    weak, strong = (compressed_spectral_error(gain * ESTIMATE, silent, level=LEVEL) for gain in (0.1, 1.0))
    assert (weak < strong).all()


def test_gradients_are_finite_in_silence() -> None:
    estimate = torch.zeros(1, 2000, requires_grad=True)
    compressed_spectral_error(estimate, torch.zeros(1, 2000), level=torch.ones(1, 1)).sum().backward()
    assert estimate.grad is not None
    assert torch.isfinite(estimate.grad).all()
