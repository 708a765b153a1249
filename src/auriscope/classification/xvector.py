"""An x-vector network that tells classes: time-delay layers, means and deviations, two linear layers.

D. Snyder et al., "X-vectors: Robust DNN Embeddings for Speaker Recognition", ICASSP 2018, table 1, with classes in the
place of speakers, as SpeechBrain's ``google-speech-commands`` has it. It hears frames, not a map of time and frequency:
interpreters that need hidden maps do not work on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.classification.classifier import SoundClassifier, SoundClassifierConfig
from auriscope.nn.pooling import StatisticsPooling
from auriscope.nn.tdnn import FrameNorm, through_blocks, xvector_blocks


@dataclass(frozen=True)
class XVectorClassifierConfig(SoundClassifierConfig):
    """The configuration of an x-vector classifier; the numbers of channels are the paper's.

    Layers 1 to 4 have ``channels``, the fifth ``pooled_channels``, and ``dim`` is the length of the embedding.
    """

    channels: int = 512
    pooled_channels: int = 1500
    dim: int = 512
    stride: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.channels, self.pooled_channels, self.dim, self.stride) < 1 or not 0.0 <= self.dropout < 1.0:
            raise ValueError("channels, pooled_channels, dim and stride must be at least 1, dropout from 0 to below 1")


class XVectorClassifier(SoundClassifier, name="classification/xvector"):
    """Waveforms (batch, time) to logits (batch, classes)."""

    Config = XVectorClassifierConfig
    Tiny: ClassVar[dict[str, Any]] = {"num_mels": 12, "channels": 16, "pooled_channels": 24, "dim": 12}

    def __init__(self, config: XVectorClassifierConfig) -> None:
        super().__init__(config)
        self.norm = FrameNorm(self.num_bins)
        self.blocks = xvector_blocks(self.num_bins, config.channels, config.pooled_channels, config.stride)
        self.pooling = StatisticsPooling()
        self.project = nn.Linear(2 * config.pooled_channels, config.dim)
        self.head = nn.Linear(config.dim, len(config.labels))

    def classify_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, classes) of features (batch, frames, num_bins); None: every frame is valid."""
        features = self.norm(features.mT, frame_lengths).mT
        x, frame_lengths = through_blocks(self.blocks, features, frame_lengths)
        embedding = F.leaky_relu(self.project(self.pooling(x, frame_lengths)))
        logits: Tensor = self.head(F.dropout(embedding, self.config.dropout, self.training))
        return logits
