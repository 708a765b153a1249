"""DPTNet: a learned filterbank whose features are masked by transformers with recurrent networks, in two paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice, length_mask, run_recurrent
from auriscope.separation.layers import (
    ACTIVATIONS,
    ChannelLayerNorm,
    Chunking,
    Decoder,
    Encoder,
    GlobalLayerNorm,
    MaskingModel,
    overlap_add,
    run_in_slices,
    split_chunks,
)

_NORMS: dict[str, type[GlobalLayerNorm | ChannelLayerNorm]] = {"global": GlobalLayerNorm, "channel": ChannelLayerNorm}


@dataclass(frozen=True)
class DPTNetConfig:
    """The configuration of DPTNet; the defaults are the paper's (section 3.2), with the norms of Asteroid.

    ``kernel_size`` and ``stride`` are in samples, ``chunk_size`` and ``hop_size`` in frames. With
    ``bottleneck_channels``, the transformers have that many channels, and linear layers without bias lead from the
    filters to them and back to the masks; with 0 they have as many as there are filters. ``hidden_size`` is that of the
    LSTM that takes the place of the transformer's first linear layer; along the chunks it always runs both ways, across
    them it does if ``bidirectional``. ``norm``, of every sequence by itself, is ``"global"`` or ``"channel"``;
    ``feature_norm``, of the features before them, one of the two or ``"same"``. The first chunk begins a whole
    chunk before the first frame, or, with ``chunk_padding="half"``, half a chunk before it; chunks then overlap by
    half. The authors' code has 256 filters, a bottleneck of 64, the ``norm`` "channel", the ``feature_norm`` "global"
    and the ``chunk_padding`` "half".
    """

    sample_rate: int = 8000
    num_sources: int = 2
    num_filters: int = 64
    bottleneck_channels: int = 0
    kernel_size: int = 2
    stride: int = 1
    num_heads: int = 4
    hidden_size: int = 128
    chunk_size: int = 250
    hop_size: int = 125
    num_blocks: int = 6
    bidirectional: bool = True
    dropout: float = 0.0
    norm: str = "global"
    feature_norm: str = "same"
    encoder_activation: str = "relu"
    feedforward_activation: str = "relu"
    mask_activation: str = "relu"
    chunk_padding: str = "whole"

    def __post_init__(self) -> None:
        choice(self.norm, _NORMS, "norm")
        choice(self.feature_norm, ("same", *_NORMS), "feature_norm")
        choice(self.feedforward_activation, ACTIVATIONS, "feedforward_activation")
        choice(self.mask_activation, ACTIVATIONS, "mask_activation")
        if not 0 < self.hop_size <= self.chunk_size:
            raise ValueError("hop_size must be at least 1 and at most chunk_size")
        choice(self.chunk_padding, ("whole", "half"), "chunk_padding")
        if self.chunk_padding == "half" and self.chunk_size != 2 * self.hop_size:
            raise ValueError("with chunk_padding 'half', hop_size must be half of chunk_size")
        if self.bottleneck_channels < 0:
            raise ValueError("bottleneck_channels must be 0, for none, or more")
        if self.num_channels % self.num_heads:
            name = "bottleneck_channels" if self.bottleneck_channels else "num_filters"
            raise ValueError(f"{name} must be a multiple of num_heads")

    @property
    def num_channels(self) -> int:
        """Channels of the transformers."""
        return self.bottleneck_channels or self.num_filters


class DPTNet(MaskingModel, name="separation/dptnet"):
    """Dual-path transformer network: attention, then a recurrent network, along every chunk and across the chunks.

    J. Chen, Q. Mao, D. Liu, "Dual-Path Transformer Network: Direct Context-Aware Modeling for End-to-End Monaural
    Speech Separation", Interspeech 2020, arXiv 2007.13975; section 2.

    Published: SI-SNRi 20.2 dB, SDRi 20.6 dB on WSJ0-2Mix; 2.69 M parameters. The recurrent networks tell the order, so
    there are no positions.

    There are two configurations. The default is the paper's text, with 64 filters, in Asteroid's form: 2.80 M
    parameters, and equal to Asteroid's ``DPTNet`` with the same weights. The authors' code has 256 filters and a
    bottleneck of 64 channels, with 2.83 M parameters here as there; the published number is that of the tool they
    counted with, which leaves the input projections of the attention out (2.685 M without those). The recipe for
    WSJ0-2Mix has that configuration, which is equal to the authors' network with the same weights.
    """

    Config = DPTNetConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 8,
        "kernel_size": 16,
        "stride": 8,
        "num_heads": 2,
        "hidden_size": 8,
        "chunk_size": 10,
        "hop_size": 5,
        "num_blocks": 2,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 20.2,
        "SDRi on WSJ0-2Mix (dB)": 20.6,
        "parameters (million)": 2.69,
    }

    def __init__(self, config: DPTNetConfig) -> None:
        filters = (config.num_filters, config.kernel_size, config.stride)
        encoder = Encoder(*filters, activation=config.encoder_activation)
        super().__init__(config, encoder, DPTNetMasker(config), Decoder(*filters))


class DPTNetMasker(nn.Module):
    """Normalise, cut into chunks, run the layers along and across them, add the chunks up, gate (section 2.2)."""

    def __init__(self, config: DPTNetConfig) -> None:
        super().__init__()
        channels, filters = config.num_channels, config.num_filters
        half = config.chunk_padding == "half"
        padding = config.hop_size if half else config.chunk_size
        self.chunking = Chunking(config.chunk_size, config.hop_size, padding=padding, in_pairs=half)
        self.num_sources, self.mask_activation = config.num_sources, config.mask_activation
        feature_norm = config.norm if config.feature_norm == "same" else config.feature_norm
        self.norm = _NORMS[feature_norm](filters, channels_last=True)
        self.bottleneck, self.to_masks = None, None
        if config.bottleneck_channels:
            self.bottleneck = nn.Linear(filters, channels, bias=False)
            self.to_masks = nn.Linear(channels, filters, bias=False)
        self.intra = nn.ModuleList(RecurrentTransformer(config, True) for _ in range(config.num_blocks))
        self.inter = nn.ModuleList(RecurrentTransformer(config, config.bidirectional) for _ in range(config.num_blocks))
        self.prelu = nn.PReLU()
        self.to_sources = nn.Linear(channels, config.num_sources * channels)
        self.output = nn.Linear(channels, channels)
        self.gate = nn.Linear(channels, channels)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Features (B, F, N) to masks (B, S, F, N); ``frame_lengths`` (B,) are the valid frames."""
        num_frames = features.shape[1]
        mask = None if frame_lengths is None else length_mask(frame_lengths, num_frames)[..., None]
        x = self.norm(features, mask)
        if self.bottleneck is not None:
            x = self.bottleneck(x)
        if mask is not None:
            x = x * mask
        chunks = split_chunks(x, self.chunking)
        num_chunks = None if frame_lengths is None else self.chunking.num_chunks(frame_lengths)
        for intra, inter in zip(self.intra, self.inter, strict=True):
            chunks = run_in_slices(intra, chunks, None)
            chunks = run_in_slices(inter, chunks.transpose(1, 2), num_chunks).transpose(1, 2)
        # The projection is linear, so it may as well follow the overlap-add, at half the work: only its bias must then
        # be added as often as there are chunks over a frame. Of all this the mean is taken.
        x = self._overlap_add(self.prelu(chunks), num_frames)
        count = self._overlap_add(chunks.new_ones(1, chunks.shape[1], chunks.shape[2], 1), num_frames)
        share = self.chunking.hop / self.chunking.size
        x = F.linear(x, self.to_sources.weight * share) + count * (self.to_sources.bias * share)
        x = x.view(*x.shape[:2], self.num_sources, -1).transpose(1, 2)
        x = torch.tanh(self.output(x)) * torch.sigmoid(self.gate(x))
        return ACTIVATIONS[self.mask_activation](x if self.to_masks is None else self.to_masks(x))

    def _overlap_add(self, chunks: Tensor, num_frames: int) -> Tensor:
        return overlap_add(chunks, self.chunking.hop, padding=self.chunking.padding, num_frames=num_frames)


class RecurrentTransformer(nn.Module):
    """The improved transformer: self-attention, then LSTM, activation and projection, each added and normalised.

    Section 2.1, equations 1 to 6.
    """

    slice_positions = 65536

    def __init__(self, config: DPTNetConfig, bidirectional: bool) -> None:
        super().__init__()
        channels, norm = config.num_channels, _NORMS[config.norm]
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.activation = ACTIVATIONS[config.feedforward_activation]
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.attention_norm = norm(channels, channels_last=True)
        self.recurrent = nn.LSTM(channels, config.hidden_size, bidirectional=bidirectional, batch_first=True)
        self.projection = nn.Linear(config.hidden_size * (2 if bidirectional else 1), channels)
        self.feedforward_norm = norm(channels, channels_last=True)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, sequences: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map sequences (M, T, C), of which ``lengths`` (M,) positions are valid, to the same shape."""
        mask = None if lengths is None else length_mask(lengths, sequences.shape[1])
        frames = None if mask is None else mask[..., None]
        attended = self._dropped(self._attention(sequences, None if mask is None else mask[:, None, None]))
        x = self.attention_norm(attended + sequences, frames)
        hidden = self._dropped(self.activation(run_recurrent(self.recurrent, x, lengths)))
        output: Tensor = self.feedforward_norm(self._dropped(self.projection(hidden)) + x, frames)
        return output

    def _attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        # Views only, and no attention map is ever stored.
        query, key, value = self.qkv(x).view(*x.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        output: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return output

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
