"""A small 2-D CNN for sounds: residual convolutions over mels, means and maxima over time, classes.

The trunk is that of :mod:`auriscope.nn.trunk`; what is pooled, mean plus highest over time of the mean over
mels, is CNN14's (arXiv 1912.10211, section III A).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.classification.classifier import SoundClassifierConfig, SoundMaps
from auriscope.nn.cnn14 import blank_behind, mean_and_max
from auriscope.nn.tdnn import FrameNorm
from auriscope.nn.trunk import Convolution, Trunk, check_stages


@dataclass(frozen=True)
class CNNConfig(SoundClassifierConfig):
    """The configuration of the small CNN.

    Every bin is normed by itself; a first convolution with stride 2 gives ``stem_channels``, and each further stage
    ``channels`` at its place, with its stride. ``dropout`` is of the pooled vector.
    """

    stem_channels: int = 16
    channels: tuple[int, ...] = (32, 64, 128)
    strides: tuple[int, ...] = (2, 2, 2)
    dropout: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self.channels, self.strides)
        if self.stem_channels < 1 or not 0.0 <= self.dropout < 1.0:
            raise ValueError("stem_channels must be at least 1, and dropout at least 0 and below 1")


class CNN(SoundMaps, name="classification/cnn"):
    """Waveforms (batch, time) to logits (batch, classes); hidden maps are the stem's and those of the stages."""

    Config = CNNConfig
    Tiny: ClassVar[dict[str, Any]] = {"num_mels": 16, "stem_channels": 4, "channels": (8, 12), "strides": (2, 2)}

    def __init__(self, config: CNNConfig) -> None:
        super().__init__(config)
        self.norm = FrameNorm(self.num_bins)
        self.stem = Convolution(1, config.stem_channels, 2)
        self.trunk = Trunk(config.stem_channels, config.channels, config.strides)
        self.head = nn.Linear(config.channels[-1], len(config.labels))

    @property
    def hidden_channels(self) -> tuple[int, ...]:
        """How many channels the map of each stage has, earliest first."""
        return (self.config.stem_channels, *self.config.channels)

    def stages(self, features: Tensor, frame_lengths: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps (batch, channels, frames, bins) of every stage, and logits, of features (batch, frames, num_bins)."""
        x = self.norm(features.mT, frame_lengths).mT[:, None]
        x = blank_behind(x, frame_lengths)
        frame_lengths = None if frame_lengths is None else (frame_lengths + 1) // 2
        stem = blank_behind(F.relu(self.stem(x, frame_lengths)), frame_lengths)
        maps, frame_lengths = self.trunk(stem, frame_lengths)
        pooled = F.dropout(mean_and_max(maps[-1], frame_lengths), self.config.dropout, self.training)
        logits: Tensor = self.head(pooled)
        return (stem, *maps), logits
