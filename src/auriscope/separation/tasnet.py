"""TasNet: a gated learned filterbank whose features are masked by a deep bidirectional LSTM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice, run_recurrent
from auriscope.separation.layers import ChannelLayerNorm, Decoder, Encoder, MaskingModel


@dataclass(frozen=True)
class TasNetConfig:
    """The configuration of TasNet; the defaults are the paper's BLSTM-TasNet.

    ``kernel_size`` (L) and ``stride`` are in samples: the paper's segments do not overlap, later tables of others
    give it a stride of 20. ``hidden_size`` is that of one direction. ``bidirectional=False`` with a ``hidden_size`` of
    1000 is the paper's causal LSTM-TasNet. ``initial_filters`` is ``"xavier"`` or ``"harmonic"``: windowed sines and
    cosines of both signs, with which the untrained network already gives each talker the mixture in equal shares; it
    needs ``num_filters`` of twice and ``stride`` of half the ``kernel_size``.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    num_filters: int = 500  # N
    kernel_size: int = 40  # L
    stride: int = 40
    hidden_size: int = 500
    num_layers: int = 4
    bidirectional: bool = True
    dropout: float = 0.0
    initial_filters: str = "xavier"

    def __post_init__(self) -> None:
        choice(self.initial_filters, ("xavier", "harmonic"), "initial_filters")
        if not 0 < self.stride <= self.kernel_size:
            raise ValueError("stride must be at least 1 and at most kernel_size")
        if self.initial_filters == "harmonic" and (self.num_filters, 2 * self.stride) != (
            2 * self.kernel_size,
            self.kernel_size,
        ):
            raise ValueError("harmonic filters need num_filters = 2 * kernel_size and stride = kernel_size / 2")


class TasNet(MaskingModel, name="separation/tasnet"):
    """TasNet: separation in the time domain by masks on a learned non-negative representation.

    Y. Luo, N. Mesgarani, "TasNet: time-domain audio separation network for real-time, single-channel speech
    separation", ICASSP 2018, arXiv 1711.00541.

    Published: SI-SNRi 10.8 dB, SDRi 11.1 dB on WSJ0-2Mix (BLSTM-TasNet). The paper gives no number of parameters; the
    authors' next one (Conv-TasNet, arXiv 1809.07454, table) says 23.6 million of BLSTM-TasNet, and the default
    configuration has 23.09.

    Open in the paper, and chosen here: which layers the identity connections join (each LSTM layer from the second on
    adds its input to its output), and the filters' initial values (Xavier).
    """

    Config = TasNetConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 24,
        "kernel_size": 16,
        "stride": 8,
        "hidden_size": 12,
        "num_layers": 3,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 10.8,
        "SDRi on WSJ0-2Mix (dB)": 11.1,
        "parameters (million)": 23.6,
    }

    def __init__(self, config: TasNetConfig) -> None:
        filters = (config.num_filters, config.kernel_size, config.stride)
        encoder, decoder = GatedEncoder(*filters), Decoder(*filters)
        super().__init__(config, encoder, RecurrentMasker(config), decoder)
        if config.initial_filters == "harmonic":
            basis = harmonic_basis(config.kernel_size)
            signed = torch.cat([basis, -basis])[:, None]
            with torch.no_grad():
                encoder.weight.copy_(signed)
                # Closed halfway: the decoder makes up for it.
                encoder.gate.mul_(0.1)
                decoder.weight.copy_(2 * signed)


def harmonic_basis(size: int) -> Tensor:
    """An orthonormal basis (size, size) of cosines and sines times the square root of a Hann window.

    Analysed and synthesised with it at a hop of half the ``size``, which must be even, a signal comes back.
    """
    phase = 2 * torch.pi * torch.arange(size // 2 + 1)[:, None] * torch.arange(size) / size
    cosines, sines = phase.cos() * (2 / size) ** 0.5, phase[1:-1].sin() * (2 / size) ** 0.5
    # Of the constant and of the highest frequency there is one function each, with all the energy.
    cosines[[0, -1]] *= 0.5**0.5
    return torch.cat([cosines, sines]) * torch.hann_window(size).sqrt()


class GatedEncoder(Encoder):
    """The non-negative mixture weights: ``relu(x U) * sigmoid(x V / |x|)`` for every segment x.

    The paper divides the segments by their norms first and multiplies the separated segments by them at the end; as
    the layer norm of the masker does not see the scale of a frame, the frame may as well keep it. The last segment is
    filled up with zeros.
    """

    def __init__(self, num_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__(num_filters, kernel_size, stride, activation="relu")
        self.gate = nn.Parameter(torch.empty(num_filters, 1, kernel_size))
        nn.init.xavier_normal_(self.gate)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Frames (B,) that recordings of ``lengths`` (B,) samples have on their own."""
        return (lengths - self.kernel_size + self.stride - 1).clamp(min=0) // self.stride + 1

    def forward(self, mixture: Tensor) -> Tensor:
        """Analyse a mixture (B, time) into features (B, N, F), none of them negative."""
        missing = max(self.kernel_size - mixture.shape[-1], (self.kernel_size - mixture.shape[-1]) % self.stride)
        segments = F.pad(mixture, (0, missing)).unfold(-1, self.kernel_size, self.stride)
        normalised = segments / segments.norm(dim=-1, keepdim=True).clamp(min=1e-8)
        features = torch.relu(segments @ self.weight[:, 0].T) * torch.sigmoid(normalised @ self.gate[:, 0].T)
        return features.transpose(1, 2)


class RecurrentMasker(nn.Module):
    """Layer norm, LSTM layers with identity connections, and masks that share every feature out."""

    def __init__(self, config: TasNetConfig) -> None:
        super().__init__()
        self.num_sources = config.num_sources
        width = config.hidden_size * (2 if config.bidirectional else 1)
        # Frames keep their level (see GatedEncoder): the epsilon must stay below what the faintest of them have.
        self.norm = ChannelLayerNorm(config.num_filters, channels_last=True, eps=1e-16)
        self.layers = nn.ModuleList(
            nn.LSTM(
                width if index else config.num_filters,
                config.hidden_size,
                batch_first=True,
                bidirectional=config.bidirectional,
            )
            for index in range(config.num_layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.to_masks = nn.Linear(width, config.num_sources * config.num_filters)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Features (B, F, N) to masks (B, S, F, N); ``frame_lengths`` (B,) are the valid frames."""
        x = self.norm(features)
        for index, layer in enumerate(self.layers):
            y = self.dropout(run_recurrent(layer, x, frame_lengths))
            x = x + y if index else y
        masks: Tensor = self.to_masks(x).unflatten(-1, (self.num_sources, -1))
        return masks.transpose(1, 2).softmax(1)
