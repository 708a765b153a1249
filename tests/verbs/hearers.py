"""Classifiers whose reasons are known, so that what explains them can be held against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.classification import (
    ImageClassifier,
    ImageClassifierConfig,
    SoundClassifier,
    SoundClassifierConfig,
)

RATE = 8000


@dataclass(frozen=True)
class BandsConfig(SoundClassifierConfig):
    """Three bands of frequency."""

    labels: tuple[str, ...] = ("low", "middle", "high")
    sample_rate: int = RATE
    window_length: int = 256
    hop_length: int = 64
    fft_length: int = 256
    num_mels: int = 0
    level: str = "linear"
    power: int = 1


class Bands(SoundClassifier, name="classification/bands"):
    """Tells which third of the frequencies sounds the most, by its loudest bin; it has no hidden maps."""

    Config = BandsConfig

    def __init__(self, config: BandsConfig) -> None:
        super().__init__(config)
        # Steep enough that a class is certain, and not so steep that a part of it does not count.
        self.register_buffer("steepness", torch.tensor(0.6))

    def classify_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        bands = torch.stack([band.mean(1).amax(1) for band in features.tensor_split(3, 2)], 1)
        return self.steepness * bands


@dataclass(frozen=True)
class SidesConfig(ImageClassifierConfig):
    """Two halves of a picture."""

    labels: tuple[str, ...] = ("left", "right")
    height: int = 8
    width: int = 12


class Sides(ImageClassifier, name="classification/sides"):
    """Tells which half of a picture is brighter."""

    Config = SidesConfig

    def __init__(self, config: SidesConfig) -> None:
        super().__init__(config)
        self.register_buffer("steepness", torch.tensor(20.0))

    def forward(self, image: Tensor, lengths: Tensor | None = None) -> Tensor:
        return torch.stack([half.mean((1, 2, 3)) for half in image.tensor_split(2, 3)], 1) * self.steepness


def tone(seconds: float, hertz: float, amplitude: float = 0.2, rate: int = RATE) -> NDArray[np.float32]:
    """A tone (time,)."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


LOW, HIGH = tone(1.5, 500.0), tone(1.5, 3500.0, 0.1)
"""Of what the tests hear, "low" is decided, and "high" is in it as well."""
