"""What a CLAP hears with: log-mel features, and an encoder that makes one vector of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from auriscope.nn.cnn14 import CHANNELS, CNN14, blank_behind, mean_and_max
from auriscope.nn.htsat import HTSAT, HTSATConfig
from auriscope.nn.masks import choice, length_mask
from auriscope.nn.tdnn import FrameNorm
from auriscope.nn.trunk import Convolution, Trunk, check_stages
from auriscope.signal.features import FeatureConfig, Features
from auriscope.signal.stft import PadMode

Level = Literal["peak", "decibels"]
AudioEncoderName = Literal["cnn", "cnn14", "htsat"]


@dataclass(frozen=True)
class AudioConfig:
    """What the audio encoder hears, and how large it is.

    ``num_mels`` triangles ("htk" or "slaney" ones) lie between ``min_hz`` and ``max_hz`` (None: half the sample rate).
    ``level`` "peak" maps ``range_db`` below the recording's loudest value to [0, 1], "decibels" are decibels.

    Of the small CNN, ``stem_channels`` come out of the first convolution, and ``channels`` out of each stage with its
    stride; of CNN14, ``channels`` are those of its stages, 64 to 2048 if there are none here. ``dropout`` is of the
    pooled vector, or behind CNN14's stages. ``dense_channels``, if not 0, are those of the linear layer and ReLU that
    PANNs have behind CNN14. ``pad_mode`` is with what frames see beyond the ends. ``htsat`` is of an HTS-AT, which
    hears decibels of as many mels.
    """

    num_mels: int = 64
    window_length: int = 512
    hop_length: int = 160
    fft_length: int = 512
    pad_mode: PadMode = "constant"
    min_hz: float = 50.0
    max_hz: float | None = None
    filters: Literal["htk", "slaney"] = "htk"
    level: Level = "peak"
    range_db: float = 80.0
    stem_channels: int = 16
    channels: tuple[int, ...] = (32, 64, 128)
    strides: tuple[int, ...] = (2, 2, 2)
    dense_channels: int = 0
    dropout: float = 0.2
    htsat: HTSATConfig = field(default_factory=HTSATConfig)

    def __post_init__(self) -> None:
        choice(self.level, get_args(Level), "level")
        choice(self.filters, ("htk", "slaney"), "filters")
        choice(self.pad_mode, get_args(PadMode), "pad_mode")
        if not 0 < self.window_length <= self.fft_length or min(self.hop_length, self.num_mels, self.stem_channels) < 1:
            raise ValueError(
                "sounds need 0 < window_length <= fft_length, and a hop_length, num_mels and stem_channels"
            )
        if not self.range_db > 0 or not 0.0 <= self.dropout < 1.0:
            raise ValueError("range_db must be above 0, dropout at least 0 and below 1")


class LogMels(nn.Module):
    """Waveforms (batch, time) to features (batch, frames, num_mels), as an :class:`AudioConfig` says."""

    def __init__(self, config: AudioConfig, sample_rate: int) -> None:
        super().__init__()
        self.level, self.range_db = config.level, config.range_db
        self.mels = Features(
            FeatureConfig(
                sample_rate=sample_rate,
                window_length=config.window_length,
                hop_length=config.hop_length,
                fft_length=config.fft_length,
                pad_mode=config.pad_mode,
                filters=config.filters,
                num_mels=config.num_mels,
                min_hz=config.min_hz,
                max_hz=config.max_hz,
                log="decibels",
            )
        )

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, num_mels), zeros behind the end, and frame lengths (batch,)."""
        # Powers and their logarithms lose what a network needs of them in sixteen bits.
        with torch.autocast(waveform.device.type, enabled=False):
            decibels, frame_lengths = self.mels(waveform.float(), lengths)
        if self.level == "decibels":
            return decibels, frame_lengths
        valid = length_mask(frame_lengths, decibels.shape[1])[..., None]
        # Silence, at -100 dB, has no loudest value to be compared with.
        highest = torch.where(valid, decibels, -torch.inf).amax((1, 2), keepdim=True).clamp_min(self.range_db - 100.0)
        features = (1.0 + (decibels - highest) / self.range_db).clamp_min(0.0)
        return torch.where(valid, features, 0.0), frame_lengths


class SmallCNN(nn.Module):
    """Residual convolutions over mels; mean plus highest over time of the mean over mels: (batch, channels[-1]).

    Its parts are named as those of ``classification/cnn``, whose weights it can begin with.
    """

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        check_stages(config.channels, config.strides)
        self.dim, self.dropout = config.channels[-1], nn.Dropout(config.dropout)
        self.norm = FrameNorm(config.num_mels)
        self.stem = Convolution(1, config.stem_channels, 2)
        self.trunk = Trunk(config.stem_channels, config.channels, config.strides)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of features (batch, frames, num_mels); None: every frame is valid."""
        x = blank_behind(self.norm(features.mT, frame_lengths).mT[:, None], frame_lengths)
        frame_lengths = None if frame_lengths is None else (frame_lengths + 1) // 2
        stem = blank_behind(self.stem(x, frame_lengths).relu(), frame_lengths)
        maps, frame_lengths = self.trunk(stem, frame_lengths)
        pooled: Tensor = self.dropout(mean_and_max(maps[-1], frame_lengths))
        return pooled


class PooledCNN14(nn.Module):
    """CNN14 over mels: (batch, channels[-1]), or ``dense_channels`` where there are any."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        channels = config.channels or CHANNELS
        self.dim = config.dense_channels or channels[-1]
        self.trunk = CNN14(config.num_mels, channels, config.dropout)
        self.dense = nn.Linear(channels[-1], config.dense_channels) if config.dense_channels else None

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of features (batch, frames, num_mels); None: every frame is valid."""
        embedding: Tensor = self.trunk(features, frame_lengths)[1]
        return embedding if self.dense is None else self.dense(embedding).relu()


AudioEncoder = SmallCNN | PooledCNN14 | HTSAT
"""What makes vectors (batch, ``dim``) of features (batch, frames, num_mels)."""


def make_audio_encoder(name: AudioEncoderName, config: AudioConfig) -> AudioEncoder:
    """Make the audio encoder that a configuration names; ``ValueError`` if what it hears does not fit."""
    if name == "cnn":
        return SmallCNN(config)
    if name == "cnn14":
        return PooledCNN14(config)
    if config.num_mels != config.htsat.num_mels:
        raise ValueError(f"audio.num_mels is {config.num_mels} and audio.htsat.num_mels {config.htsat.num_mels}")
    return HTSAT(config.htsat)
