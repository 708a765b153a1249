"""Made voices: recordings of harmonics under a speaker's own spectrum, and a model that hears just that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from auriscope.signal.features import make_features
from auriscope.speaker import Embedder, EmbedderConfig

RATE = 16_000


@dataclass(frozen=True)
class TimbreConfig(EmbedderConfig):
    dim: int = 80


class Timbre(Embedder, name="speaker/timbre-of-tests"):
    """The mean of the features is the embedding: a recording's long-term spectrum."""

    Config = TimbreConfig

    def __init__(self, config: TimbreConfig) -> None:
        super().__init__(config)
        self.front = make_features("speechbrain", sample_rate=config.sample_rate, num_mels=config.num_mels)
        # Of no use but that a model has weights, whose checksum tells it from another.
        self.gain = torch.nn.Parameter(torch.ones(()))

    def encode_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        if frame_lengths is None:
            mean = features.mean(1)
        else:
            valid = torch.arange(features.shape[1]) < frame_lengths[:, None]
            mean = (features * valid[..., None]).sum(1) / frame_lengths[:, None]
        return self.gain * (mean - mean.mean(-1, keepdim=True))


def speech(speaker: int, clip: int, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """Noise through a speaker's own filter, another for each clip."""
    rng = np.random.default_rng([speaker, clip])
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * rate)))
    hertz = np.fft.rfftfreq(round(seconds * rate), 1 / rate)
    shape = np.random.default_rng(speaker).standard_normal(12)
    gain = np.exp(sum(a * np.cos(np.pi * k * hertz / 8000) for k, a in enumerate(shape)) / 2)
    waveform = np.fft.irfft(spectrum * gain)
    return 0.1 * waveform / np.abs(waveform).max()


def write(path: Path, waveform: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate)
    return path
