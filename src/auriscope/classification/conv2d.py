"""The classifier that PIQ was published with: four strided convolutions over the STFT, a residual block, a mean.

F. Paissan, C. Subakan, M. Ravanelli, "Posthoc Interpretation via Quantization" (arXiv 2303.12659), section 3.1;
SpeechBrain's ``Conv2dEncoder_v2``, which it follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.classification.classifier import SoundClassifierConfig, SoundMaps
from auriscope.classification.heads import HeadConfig, make_head
from auriscope.nn.cnn14 import MapNorm, blank_behind

_NUM_LAYERS = 4


@dataclass(frozen=True)
class Conv2dConfig(SoundClassifierConfig):
    """The configuration; the defaults are those of SpeechBrain's ``PIQ-ESC50``: 256 channels over log1p of the STFT."""

    window: str = "hamming"
    window_length: int = 372
    hop_length: int = 186
    fft_length: int = 1024
    num_mels: int = 0
    min_hz: float = 0.0
    level: str = "log1p"
    power: int = 1
    channels: int = 256
    head: HeadConfig = field(default_factory=HeadConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, not {self.channels}")


class Conv2d(SoundMaps, name="classification/conv2d"):
    """Waveforms (batch, time) to logits (batch, classes); hidden maps are those of the four layers and of the block."""

    Config = Conv2dConfig
    Tiny: ClassVar[dict[str, Any]] = {"fft_length": 512, "channels": 10}

    def __init__(self, config: Conv2dConfig) -> None:
        super().__init__(config)
        channels = config.channels
        self.convs = nn.ModuleList(
            nn.Conv2d(1 if index == 0 else channels, channels, 4, 2, padding=1) for index in range(_NUM_LAYERS)
        )
        self.norms = nn.ModuleList(MapNorm(channels) for _ in range(_NUM_LAYERS))
        self.block = nn.ModuleList((nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)))
        self.block_norms = nn.ModuleList(MapNorm(channels) for _ in range(2))
        self.head = make_head(config.head, channels, len(config.labels))

    @property
    def hidden_channels(self) -> tuple[int, ...]:
        """How many channels the map of each stage has, earliest first."""
        return (int(self.config.channels),) * (_NUM_LAYERS + 1)

    def stages(self, features: Tensor, frame_lengths: Tensor | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps (batch, channels, frames, bins) of every stage, and logits, of features (batch, frames, num_bins)."""
        least = 2**_NUM_LAYERS
        x = F.pad(features, (0, 0, 0, max(0, least - features.shape[1])))[:, None]
        frame_lengths = None if frame_lengths is None else frame_lengths.clamp_min(least)
        maps = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            frame_lengths = None if frame_lengths is None else frame_lengths // 2
            x = blank_behind(F.relu(norm(conv(x), frame_lengths)), frame_lengths)
            maps.append(x)
        y = blank_behind(F.relu(self.block_norms[0](self.block[0](x), frame_lengths)), frame_lengths)
        x = blank_behind(x + self.block_norms[1](self.block[1](y), frame_lengths), frame_lengths)
        maps.append(x)
        return tuple(maps), self.head(_mean(x, frame_lengths))


def _mean(x: Tensor, frame_lengths: Tensor | None) -> Tensor:
    """Mean over bins and valid frames of maps (batch, channels, frames, bins), which are zero behind."""
    if frame_lengths is None:
        return x.mean((2, 3))
    return x.mean(3).sum(2) / frame_lengths[:, None]
