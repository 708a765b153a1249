"""What every speaker model is to training and the verbs: a recording to one vector, near for one voice."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.pretrained.model import Model
from auriscope.signal.features import FeatureExtractor, make_features


@dataclass(frozen=True)
class EmbedderConfig:
    """What the configuration of every speaker model begins with: the sample rate, the features and the embedding.

    The features are those of SpeechBrain's models, ``num_mels`` of them, less the recording's mean
    (:data:`~auriscope.signal.features.PRESETS`); ``dim`` is the length of the embedding.
    """

    sample_rate: int = 16_000
    num_mels: int = 80
    dim: int = 192

    def __post_init__(self) -> None:
        if self.sample_rate < 1000 or min(self.num_mels, self.dim) < 1:
            raise ValueError("sample_rate must be at least 1000, num_mels and dim at least 1")


class Embedder(Model):
    """Base of every speaker model: waveform to features to one embedding, in which padding changes nothing.

    The score of two recordings is the cosine of their embeddings, -1 to 1, higher for the same voice: the product of
    what :meth:`embed` gives.
    """

    front: FeatureExtractor

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__(config)
        self.front = make_features(
            "speechbrain",
            sample_rate=config.sample_rate,
            num_mels=config.num_mels,
            hop_length=config.sample_rate // 100,
            window_length=config.sample_rate // 40,
            fft_length=max(400, config.sample_rate // 40),
            normalization="mean",
        )

    @property
    def dim(self) -> int:
        """The length of the embedding."""
        return int(self.config.dim)

    @property
    def min_seconds(self) -> float:
        """How much sound :meth:`embed` asks for at least: less holds hardly more than one speech sound."""
        return 0.25

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Turn waveforms (batch, time) into features (batch, frames, num_mels) and frame lengths (batch,)."""
        features: tuple[Tensor, Tensor] = self.front(waveform, lengths)
        return features

    @abstractmethod
    def encode_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Turn features (batch, frames, num_mels) into embeddings (batch, dim); None: every frame is valid."""

    def uneven(self, features: Tensor, frame_lengths: Tensor | None) -> Tensor | None:
        """The frame lengths (batch,), or None where every frame of ``features`` is valid: that is computed faster."""
        if frame_lengths is None or bool((frame_lengths == features.shape[1]).all()):
            return None
        return frame_lengths

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embeddings (batch, dim) of waveforms (batch, time), as the network gives them: of any length.

        ``lengths`` (batch,) are the valid samples.
        """
        features, frame_lengths = self.features(waveform, lengths)
        return self.encode_features(features, None if lengths is None else frame_lengths)

    def embed(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embeddings (batch, dim) of unit length; ``AuriscopeError`` for a recording shorter than ``min_seconds``."""
        rate = int(self.config.sample_rate)
        shortest = waveform.shape[1] if lengths is None else int(lengths.min())
        if shortest < self.min_seconds * rate:
            raise AuriscopeError(
                f"{shortest / rate:.2f} s of sound are too short to tell a voice; give at least {self.min_seconds} s"
            )
        with torch.autocast(waveform.device.type, enabled=False):
            return F.normalize(self(waveform, lengths).float(), dim=-1)
