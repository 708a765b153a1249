"""Stems: chunks that need no joining, and the objective of absolute errors."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.separation.stems import absolute_objective, separate_stems

RATE = 1000


class Signs:
    """Two stems, the positive and the negative half of the mixture: each has its place, and chunks do not matter."""

    config = types.SimpleNamespace(sample_rate=RATE, num_sources=2)

    def __init__(self) -> None:
        self.longest = 0

    def __call__(self, mixture: Tensor) -> Tensor:
        self.longest = max(self.longest, mixture.shape[-1])
        return torch.stack([mixture.clamp(min=0), mixture.clamp(max=0)], dim=1)


@pytest.mark.parametrize("num_frames", [1, 700, 4000, 9871])
def test_a_long_recording_is_separated_like_a_short_one(num_frames: int) -> None:
    mixture = torch.randn(2, num_frames, generator=torch.Generator().manual_seed(0))
    separator = Signs()
    stems = separate_stems(mixture, separator, chunk_seconds=2.0, overlap_seconds=0.5)
    assert stems.shape == (2, 2, num_frames)
    assert separator.longest <= 2 * RATE
    torch.testing.assert_close(stems[0], mixture.clamp(min=0))
    torch.testing.assert_close(stems[1], mixture.clamp(max=0))


def test_the_absolute_objective_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    estimates, sources = rng.standard_normal((2, 2, 3, 4096))
    window, parts = np.hanning(257)[:-1], []
    for estimate, source in zip(estimates.reshape(-1, 4096), sources.reshape(-1, 4096), strict=True):
        padded = [np.pad(signal, 128, mode="reflect") for signal in (estimate, source)]
        spectra = []
        for signal in padded:
            frames = np.stack([signal[start : start + 256] for start in range(0, 4096 + 1, 64)])
            spectra.append(np.fft.rfft(frames * window) / 16)
        error = spectra[0] - spectra[1]
        parts.append(np.abs(error.real).mean() + np.abs(error.imag).mean())
    expected = np.mean(parts) + np.abs(estimates - sources).mean()
    value = absolute_objective(torch.from_numpy(estimates), torch.from_numpy(sources), window_length=256, hop_length=64)
    assert float(value) == pytest.approx(expected, rel=1e-4)
    silent = torch.zeros(1, 2, 4096)
    assert absolute_objective(silent, silent) == 0
