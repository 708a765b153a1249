"""ECAPA-TDNN: Res2 blocks with squeeze-and-excitation, all their outputs aggregated, attentive statistics.

B. Desplanques, J. Thienpondt and K. Demuynck, "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in
TDNN Based Speaker Verification" (arXiv 2005.07143), figures 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.packed import packable
from auriscope.nn.pooling import AttentiveStatisticsPooling, valid_mean
from auriscope.nn.tdnn import TDNN, strided
from auriscope.speaker.embedder import Embedder, EmbedderConfig

_DILATIONS = (2, 3, 4)


@dataclass(frozen=True)
class ECAPAConfig(EmbedderConfig):
    """The configuration of an ECAPA-TDNN; the defaults are the paper's larger network.

    ``channels`` are those of the frame layers, ``aggregated_channels`` of the layer that sees all; ``scale`` is the
    number of groups of a Res2 block, ``squeeze_channels`` and ``attention_channels`` the bottlenecks. ``stride`` of the
    first layer, 2 for instance, halves the frames of all others.

    SpeechBrain's networks, whose published one has 1024 and 3072 channels, are otherwise in three places: a block's
    input is the output of the last one, not the sum of all before it (``sum_blocks``); there is a batch norm after the
    aggregating layer (``norm_aggregated``), and none after the last (``norm_embedding``). Left open in the paper, and
    as there: frames are mirrored at the ends.
    """

    channels: int = 1024
    aggregated_channels: int = 1536
    scale: int = 8
    squeeze_channels: int = 128
    attention_channels: int = 128
    stride: int = 1
    sum_blocks: bool = True
    norm_aggregated: bool = False
    norm_embedding: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.channels, self.aggregated_channels, self.squeeze_channels, self.attention_channels, self.stride
        if min(sizes) < 1 or self.scale < 2 or self.channels % self.scale:
            raise ValueError("every size must be at least 1, and channels a multiple of scale, which is at least 2")


class ECAPA(Embedder, name="speaker/ecapa"):
    """Waveforms (batch, time) to embeddings (batch, dim)."""

    Config = ECAPAConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "dim": 12,
        "num_mels": 20,
        "channels": 16,
        "aggregated_channels": 24,
        "scale": 4,
        "squeeze_channels": 8,
        "attention_channels": 8,
        "norm_aggregated": True,
    }
    Published: ClassVar[dict[str, float]] = {"EER on VoxCeleb1-O (%)": 0.87}

    def __init__(self, config: ECAPAConfig) -> None:
        super().__init__(config)
        channels, pooled = config.channels, 2 * config.aggregated_channels
        self.first = TDNN(config.num_mels, channels, 5, stride=config.stride)
        self.blocks = nn.ModuleList(
            SERes2Block(channels, config.scale, config.squeeze_channels, dilation) for dilation in _DILATIONS
        )
        self.aggregate = TDNN(len(_DILATIONS) * channels, config.aggregated_channels, norm=config.norm_aggregated)
        self.pooling = AttentiveStatisticsPooling(config.aggregated_channels, config.attention_channels)
        self.pooled_norm = nn.BatchNorm1d(pooled)
        self.project = nn.Linear(pooled, config.dim)
        self.norm = nn.BatchNorm1d(config.dim) if config.norm_embedding else None

    def encode_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Turn features (batch, frames, num_mels) into embeddings (batch, dim); None: every frame is valid."""
        frame_lengths = self.uneven(features, frame_lengths)
        if frame_lengths is None and not self.training and packable(features, self.project.weight):
            pooled = self.pooling.quick(self.aggregate.quick(torch.cat(self._outputs(features, None, quick=True), 2)))
        else:
            outputs = torch.cat(self._outputs(features.mT, frame_lengths, quick=False), 1)
            frame_lengths = None if frame_lengths is None else strided(frame_lengths, self.config.stride)
            pooled = self.pooling(self.aggregate(outputs, frame_lengths), frame_lengths)
        embedding: Tensor = self.project(self.pooled_norm(pooled))
        return embedding if self.norm is None else self.norm(embedding)

    def _outputs(self, x: Tensor, frame_lengths: Tensor | None, *, quick: bool) -> list[Tensor]:
        """The outputs of the blocks: of (batch, num_mels, frames), or quickly of (batch, frames, num_mels)."""
        before = x = self.first.quick(x) if quick else self.first(x, frame_lengths)
        if frame_lengths is not None:
            frame_lengths = strided(frame_lengths, self.config.stride)
        outputs = []
        for block in self.blocks:
            x = cast(SERes2Block, block).quick(before) if quick else block(before, frame_lengths)
            outputs.append(x)
            before = before + x if self.config.sum_blocks else x
        return outputs


class SERes2Block(nn.Module):
    """Figure 1 of the paper: a layer, a Res2 convolution, a layer, squeeze-and-excitation, and the input added."""

    def __init__(self, num_channels: int, scale: int, squeeze_channels: int, dilation: int) -> None:
        super().__init__()
        group = num_channels // scale
        self.scale = scale
        self.before = TDNN(num_channels, num_channels)
        self.groups = nn.ModuleList(TDNN(group, group, 3, dilation) for _ in range(scale - 1))
        self.after = TDNN(num_channels, num_channels)
        self.squeeze = nn.Linear(num_channels, squeeze_channels)
        self.excite = nn.Linear(squeeze_channels, num_channels)

    def forward(self, x: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Frames (batch, channels, frames) to as many; None: all are valid."""
        parts = list(self.before(x, frame_lengths).chunk(self.scale, 1))
        for index, group in enumerate(self.groups, start=1):
            heard = parts[index] if index == 1 else parts[index] + parts[index - 1]
            parts[index] = group(heard, frame_lengths)
        y = self.after(torch.cat(parts, 1), frame_lengths)
        gated: Tensor = y * self._gate(valid_mean(y, frame_lengths)[..., 0])[..., None]
        return gated + x

    def quick(self, x: Tensor) -> Tensor:
        """The same of frames (batch, frames, channels) that are ``packable`` and all valid, outside training."""
        y = self.before.quick(x)
        parts = y.chunk(self.scale, 2)
        for index, group in enumerate(self.groups, start=1):
            # What a group gives takes the place of what it was given: nothing is joined afterwards.
            heard = parts[index] if index == 1 else parts[index] + parts[index - 1]
            parts[index].copy_(cast(TDNN, group).quick(heard))
        y = self.after.quick(y)
        return torch.addcmul(x, y, self._gate(y.mean(1))[:, None])

    def _gate(self, mean: Tensor) -> Tensor:
        """What each channel is multiplied by, (batch, channels)."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))
