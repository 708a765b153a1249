from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.data.synthetic import voice


@dataclass(frozen=True)
class SyntheticMixing:
    sample_rate: int
    seconds: float
    batch_size: int


class SyntheticMixer:
    """Two synthetic voices and some noise per mixture, the same for the same index."""

    def __init__(self, sample_rate: int = 8000, seconds: float = 1.5, batch_size: int = 8, seed: int = 0) -> None:
        self.config = SyntheticMixing(sample_rate, seconds, batch_size)
        self.seed = seed
        self._voices = [
            torch.from_numpy(voice(speaker, utterance, seconds=4.0, sample_rate=sample_rate))
            for speaker in range(6)
            for utterance in range(2)
        ]

    def batch(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, index])
        frames = round(self.config.seconds * self.config.sample_rate)
        sources = torch.zeros(self.config.batch_size, 2, frames)
        for row in range(self.config.batch_size):
            for talker, speaker in enumerate(rng.permutation(6)[:2]):
                whole = self._voices[2 * int(speaker) + int(rng.integers(2))]
                start = int(rng.integers(len(whole) - frames))
                cut = whole[start : start + frames]
                sources[row, talker] = 0.05 * cut / cut.square().mean().sqrt().clamp_min(1e-4)
        noise = 0.002 * torch.from_numpy(rng.standard_normal((len(sources), frames), dtype=np.float32))
        return {"mixture": sources.sum(1) + noise, "sources": sources}


@pytest.fixture(scope="session")
def synthetic_mixer():
    return SyntheticMixer


@pytest.fixture
def signals() -> SimpleNamespace:
    """A ragged batch: three mixtures of two tracks, and lengths."""
    generator = torch.Generator().manual_seed(3)
    mixture = torch.randn(3, 8000, generator=generator)
    estimates = torch.randn(3, 2, 8000, generator=generator) + 0.5 * mixture[:, None]
    return SimpleNamespace(mixture=mixture, estimates=estimates, lengths=torch.tensor([8000, 4567, 1200]))
