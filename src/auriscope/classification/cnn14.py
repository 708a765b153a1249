"""CNN14 as a classifier of sounds.

Q. Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition" (arXiv 1912.10211),
section III A and table 1; features and head are those of SpeechBrain's ``cnn14-esc50``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from auriscope.classification.classifier import SoundClassifierConfig, SoundMaps
from auriscope.classification.heads import HeadConfig, make_head
from auriscope.nn.cnn14 import CHANNELS, CNN14


@dataclass(frozen=True)
class CNN14ClassifierConfig(SoundClassifierConfig):
    """The configuration of a CNN14; the defaults are those of SpeechBrain's recipe for ESC-50.

    ``channels`` are those of the six stages.
    """

    window: str = "hamming"
    window_length: int = 372
    hop_length: int = 186
    fft_length: int = 1024
    num_mels: int = 80
    min_hz: float = 0.0
    filters: str = "symmetric"
    level: str = "log1p"
    power: int = 1
    channels: tuple[int, ...] = CHANNELS
    dropout: float = 0.2
    head: HeadConfig = field(default_factory=HeadConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or min(self.channels) < 1 or not 0.0 <= self.dropout < 1.0:
            raise ValueError("channels must be at least 1, and dropout at least 0 and below 1")


class CNN14Classifier(SoundMaps, name="classification/cnn14"):
    """Waveforms (batch, time) to logits (batch, classes); hidden maps are those of the six stages."""

    Config = CNN14ClassifierConfig
    Tiny: ClassVar[dict[str, Any]] = {"num_mels": 16, "channels": (4, 6, 8), "fft_length": 512}
    Published: ClassVar[dict[str, float]] = {"mAP on AudioSet": 0.431, "accuracy on ESC-50, fine-tuned (%)": 94.7}

    def __init__(self, config: CNN14ClassifierConfig) -> None:
        super().__init__(config)
        self.trunk = CNN14(self.num_bins, config.channels, config.dropout)
        self.head = make_head(config.head, config.channels[-1], len(config.labels))

    @property
    def hidden_channels(self) -> tuple[int, ...]:
        """How many channels the map of each stage has, earliest first."""
        return tuple(self.config.channels)

    def stages(self, features: Tensor, frame_lengths: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps (batch, channels, frames, bins) of every stage, and logits, of features (batch, frames, num_bins)."""
        maps, embedding = self.trunk(features, frame_lengths)
        return maps, self.head(embedding)
