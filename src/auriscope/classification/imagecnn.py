"""A small CNN for images: residual convolutions, mean and highest over the image, classes.

The trunk is that of :mod:`auriscope.nn.trunk` (arXiv 1512.03385).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.classification.classifier import ImageClassifier, ImageClassifierConfig
from auriscope.nn.trunk import Trunk, check_stages


@dataclass(frozen=True)
class ImageCNNConfig(ImageClassifierConfig):
    """The configuration of the small CNN; ``dropout`` is of the pooled vector."""

    stage_channels: tuple[int, ...] = (16, 48, 96)
    strides: tuple[int, ...] = (1, 2, 2)
    dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stages(self.stage_channels, self.strides)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}")


class ImageCNN(ImageClassifier, name="classification/image-cnn"):
    """Images (batch, channels, height, width) in [0, 1] to logits (batch, classes); hidden maps are the stages'."""

    Config = ImageCNNConfig
    Tiny: ClassVar[dict[str, Any]] = {"height": 12, "width": 12, "stage_channels": (6, 12), "strides": (1, 2)}

    def __init__(self, config: ImageCNNConfig) -> None:
        super().__init__(config)
        self.trunk = Trunk(config.channels, config.stage_channels, config.strides)
        self.head = nn.Linear(2 * config.stage_channels[-1], len(config.labels))

    @property
    def hidden_channels(self) -> tuple[int, ...]:
        """How many channels the map of each stage has, earliest first."""
        return tuple(self.config.stage_channels)

    def hidden(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps (batch, channels, height, width) of the stages, of images in [0, 1]."""
        return self.hidden_and_logits(x)[0]

    def hidden_and_logits(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The same maps and the logits that were computed from them, in one pass."""
        maps, _ = self.trunk(x)
        pooled = F.dropout(
            torch.cat((maps[-1].mean((2, 3)), maps[-1].amax((2, 3))), 1), self.config.dropout, self.training
        )
        return maps, self.head(pooled)

    def forward(self, image: Tensor, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Logits (batch, classes) of images (batch, channels, height, width); they have no ``lengths``."""
        return self.hidden_and_logits(image)[1]
