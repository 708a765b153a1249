"""x-vectors: a time-delay network, means and deviations of its last layer, and a projection.

D. Snyder et al., "X-vectors: Robust DNN Embeddings for Speaker Recognition", ICASSP 2018, table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from auriscope.nn.pooling import StatisticsPooling
from auriscope.nn.tdnn import through_blocks, xvector_blocks
from auriscope.speaker.embedder import Embedder, EmbedderConfig


@dataclass(frozen=True)
class XVectorConfig(EmbedderConfig):
    """The configuration of an x-vector network; the defaults are the paper's, as SpeechBrain builds it.

    Layers 1 to 4 have ``channels`` and hear 5, 3 taps two apart, 3 taps three apart, and 1 frame; the fifth has
    ``pooled_channels``. Left open in the paper: a batch norm after every activation, which is a leaky ReLU, and frames
    mirrored at the ends, as SpeechBrain has them. ``stride`` is that of the first layer.
    """

    num_mels: int = 24
    dim: int = 512
    channels: int = 512
    pooled_channels: int = 1500
    stride: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.channels, self.pooled_channels, self.stride) < 1:
            raise ValueError("channels, pooled_channels and stride must be at least 1")


class XVector(Embedder, name="speaker/xvector"):
    """Waveforms (batch, time) to embeddings (batch, dim)."""

    Config = XVectorConfig
    Tiny: ClassVar[dict[str, Any]] = {"dim": 12, "num_mels": 12, "channels": 16, "pooled_channels": 24}
    Published: ClassVar[dict[str, float]] = {"EER on SITW core, with PLDA (%)": 4.16}

    def __init__(self, config: XVectorConfig) -> None:
        super().__init__(config)
        self.blocks = xvector_blocks(config.num_mels, config.channels, config.pooled_channels, config.stride)
        self.pooling = StatisticsPooling()
        self.project = nn.Linear(2 * config.pooled_channels, config.dim)

    def encode_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Turn features (batch, frames, num_mels) into embeddings (batch, dim); None: every frame is valid."""
        x, frame_lengths = through_blocks(self.blocks, features, self.uneven(features, frame_lengths))
        embedding: Tensor = self.project(self.pooling(x, frame_lengths))
        return embedding
