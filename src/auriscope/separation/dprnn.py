"""DPRNN: a learned filterbank whose features are masked by recurrent networks along and across short chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from auriscope.nn.masks import choice, run_recurrent
from auriscope.separation.filters import begin_harmonic, check_initial_filters
from auriscope.separation.kernels import project
from auriscope.separation.layers import (
    ChannelLayerNorm,
    Chunking,
    Decoder,
    DualPathBlock,
    DualPathMasker,
    Encoder,
    GlobalLayerNorm,
    MaskingModel,
)

_NORMS: dict[str, type[GlobalLayerNorm | ChannelLayerNorm]] = {"global": GlobalLayerNorm, "channel": ChannelLayerNorm}
_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@dataclass(frozen=True)
class DPRNNConfig:
    """The configuration of DPRNN; the defaults are the paper's best (table 2: windows of 2 samples, chunks of 250).

    ``kernel_size`` and ``stride`` are in samples, ``chunk_size`` and ``hop_size`` in frames. ``cell`` is ``"lstm"``,
    ``"gru"`` or ``"rnn"``, of ``num_layers`` layers; along the chunks it always runs both ways, across them it does
    if ``bidirectional``. ``multiply_concatenate`` takes two networks, multiplies their outputs and appends the input
    (MulCat: Nachmani et al., arXiv 2003.01531, section 3). ``norm`` is ``"global"`` or ``"channel"``.

    The first chunk begins a whole chunk before the first frame, or, with ``chunk_padding="half"``, half a chunk before
    it, as in SpeechBrain; chunks then overlap by half, and ``chunk_size`` is even. With ``"none"`` it begins with the
    first frame; chunks then lie side by side, ``hop_size`` is ``chunk_size``, and there is half as much to do.

    ``initial_filters`` is ``"random"`` or ``"harmonic"``, windowed sines and cosines with both signs, whose features
    ``encoder_activation`` ``"relu"`` gives; ``fixed_filters`` leaves them as they begin (see
    :mod:`auriscope.separation.filters`; neither is in the paper).
    """

    sample_rate: int = 8000
    num_sources: int = 2
    num_filters: int = 64
    kernel_size: int = 2
    stride: int = 1
    bottleneck_channels: int = 64
    hidden_size: int = 128
    chunk_size: int = 250
    hop_size: int = 125
    num_blocks: int = 6
    num_layers: int = 1
    cell: str = "lstm"
    bidirectional: bool = True
    multiply_concatenate: bool = False
    dropout: float = 0.0
    norm: str = "global"
    encoder_activation: str = "linear"
    mask_activation: str = "sigmoid"
    chunk_padding: str = "whole"
    initial_filters: str = "random"
    fixed_filters: bool = False

    def __post_init__(self) -> None:
        choice(self.norm, _NORMS, "norm")
        choice(self.cell, _CELLS, "cell")
        if not 0 < self.hop_size <= self.chunk_size:
            raise ValueError("hop_size must be at least 1 and at most chunk_size")
        choice(self.chunk_padding, ["whole", "half", "none"], "chunk_padding")
        if self.chunk_padding == "half" and self.chunk_size != 2 * self.hop_size:
            raise ValueError("with chunk_padding 'half', hop_size must be half of chunk_size")
        if self.chunk_padding == "none" and self.chunk_size != self.hop_size:
            raise ValueError("with chunk_padding 'none', hop_size must be chunk_size")
        check_initial_filters(
            self.initial_filters, self.num_filters, self.kernel_size, self.stride, fixed=self.fixed_filters
        )
        if self.initial_filters == "harmonic" and self.encoder_activation != "relu":
            raise ValueError("harmonic filters need encoder_activation 'relu'")


SMALL_16K = DPRNNConfig(
    sample_rate=16000,
    num_filters=128,
    kernel_size=64,
    stride=32,
    bottleneck_channels=64,
    hidden_size=96,
    chunk_size=64,
    hop_size=32,
    num_blocks=4,
)
"""A small network for two talkers at 16 kHz on a CPU: 1.2 M parameters, frames of 4 ms every 2 ms."""


class DPRNN(MaskingModel, name="separation/dprnn"):
    """Dual-path RNN: chunks of a long sequence, a network along each chunk and a network across the chunks.

    Y. Luo, Z. Chen, T. Yoshioka, "Dual-path RNN: efficient long sequence modeling for time-domain single-channel
    speech separation", ICASSP 2020, arXiv 1910.06379; section 2.

    Published: SI-SNRi 18.8 dB, SDRi 19.0 dB on WSJ0-2Mix; 2.6 M parameters (2.61 M here). The gated output after the
    overlap-add is not in the paper but in its authors' and everyone's implementations. Equal to Asteroid's
    ``DPRNNTasNet`` with the same weights (whose default has 128 bottleneck channels and 3.65 M parameters).
    """

    Config = DPRNNConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 8,
        "kernel_size": 16,
        "stride": 8,
        "bottleneck_channels": 8,
        "hidden_size": 8,
        "chunk_size": 10,
        "hop_size": 5,
        "num_blocks": 2,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 18.8,
        "SDRi on WSJ0-2Mix (dB)": 19.0,
        "parameters (million)": 2.6,
    }

    def __init__(self, config: DPRNNConfig) -> None:
        filters = (config.num_filters, config.kernel_size, config.stride)
        channels, norm = config.bottleneck_channels, _NORMS[config.norm]
        blocks = (
            DualPathBlock(
                RecurrentPath(config, bidirectional=True),
                RecurrentPath(config, bidirectional=config.bidirectional),
                norm(channels, channels_last=True),
                norm(channels, channels_last=True),
            )
            for _ in range(config.num_blocks)
        )
        masker = DualPathMasker(
            blocks,
            Chunking(
                config.chunk_size,
                config.hop_size,
                padding={"whole": config.chunk_size, "half": config.hop_size, "none": 0}[config.chunk_padding],
                in_pairs=config.chunk_padding == "half",
            ),
            norm(config.num_filters, channels_last=True),
            num_filters=config.num_filters,
            num_channels=channels,
            num_sources=config.num_sources,
            bottleneck_bias=True,
            mask_activation=config.mask_activation,
        )
        super().__init__(config, Encoder(*filters, activation=config.encoder_activation), masker, Decoder(*filters))
        if config.initial_filters == "harmonic":
            begin_harmonic(self.encoder, self.decoder, fixed=config.fixed_filters)


class RecurrentPath(nn.Module):
    """A recurrent network and a projection back to its input's channels (section 2.1.2)."""

    slice_positions, fewest_sequences = 65536, 32

    def __init__(self, config: DPRNNConfig, bidirectional: bool) -> None:
        super().__init__()
        channels, count = config.bottleneck_channels, 2 if config.multiply_concatenate else 1
        self.networks = nn.ModuleList(
            _CELLS[config.cell](
                channels,
                config.hidden_size,
                num_layers=config.num_layers,
                dropout=config.dropout,
                bidirectional=bidirectional,
            )
            for _ in range(count)
        )
        width = config.hidden_size * (2 if bidirectional else 1)
        self.projection = nn.Linear(width + channels if config.multiply_concatenate else width, channels)

    def forward(self, sequences: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map sequences (M, T, C), of which ``lengths`` (M,) positions are valid, to the same shape."""
        # The network takes time first; across chunks, that is how they lie in memory.
        steps = sequences.transpose(0, 1)
        outputs = [run_recurrent(network, steps, lengths) for network in self.networks]
        return self.project(outputs, steps).transpose(0, 1)

    def project(self, outputs: Sequence[Tensor], steps: Tensor) -> Tensor:
        """What the networks made of the steps (T, M, C), back to the steps' channels."""
        x = outputs[0]
        if len(outputs) == 2:
            x = torch.cat([outputs[0] * outputs[1], steps], dim=-1)
        return project(self.projection, x)
