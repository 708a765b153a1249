"""Conv-TasNet: a learned filterbank whose features are masked by a stack of dilated convolutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice, length_mask, mirror
from auriscope.separation.kernels import ChannelPReLU, ShiftedDepthwiseConv
from auriscope.separation.layers import (
    ACTIVATIONS,
    ChannelLayerNorm,
    CumulativeLayerNorm,
    Decoder,
    Encoder,
    GlobalLayerNorm,
    MaskingModel,
)

_NORMS: dict[str, type[nn.Module]] = {
    "global": GlobalLayerNorm,
    "channel": ChannelLayerNorm,
    "cumulative": CumulativeLayerNorm,
}


@dataclass(frozen=True)
class ConvTasNetConfig:
    """The configuration of Conv-TasNet; the defaults are the paper's best (table II, gLN; letters as there).

    ``kernel_size`` and ``stride`` are in samples. ``skip_channels=0`` takes the masks from the residual path, as the
    paper's first version did. ``norm`` is ``"global"``, ``"channel"`` or ``"cumulative"``; a ``causal`` network needs
    one of the last two; ``input_norm`` is that of the features, where it is another than the blocks'.
    ``mask_activation`` is ``"sigmoid"``, ``"relu"``, ``"tanh"``, ``"linear"`` or ``"softmax"`` (over the sources).

    ``block_padding`` is what a block's convolution sees beyond the ends: ``"zeros"``, as in the paper; ``"reflect"``,
    the frames mirrored (not causal); or ``"late"``, zeros, and all its taps half their reach later than a causal one's,
    so that it sees the past alone, from half its reach back. The last two are SpeechBrain's. ``edge_padding`` samples
    of silence go before the mixture, and as many after it, once it is filled up to whole strides: torchaudio's.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    num_filters: int = 512  # N
    kernel_size: int = 16  # L
    stride: int = 8
    bottleneck_channels: int = 128  # B
    hidden_channels: int = 512  # H
    skip_channels: int = 128  # Sc
    block_kernel_size: int = 3  # P
    num_blocks: int = 8  # X
    num_repeats: int = 3  # R
    norm: str = "global"
    causal: bool = False
    encoder_activation: str = "linear"
    mask_activation: str = "sigmoid"
    input_norm: str = "same"
    block_padding: str = "zeros"
    edge_padding: int = 0

    def __post_init__(self) -> None:
        choice(self.norm, _NORMS, "norm")
        choice(self.input_norm, [*_NORMS, "same"], "input_norm")
        choice(self.block_padding, ["zeros", "reflect", "late"], "block_padding")
        choice(self.mask_activation, [*ACTIVATIONS, "softmax"], "mask_activation")
        if self.causal and "global" in (self.norm, self.input_norm):
            raise ValueError("a causal network cannot have the norm 'global'; take 'channel' or 'cumulative'")
        if self.causal and self.block_padding == "reflect":
            raise ValueError("a causal network cannot have the block_padding 'reflect'; take 'zeros'")
        if self.edge_padding < 0 or (self.causal and self.edge_padding):
            raise ValueError("edge_padding must be 0 or more, and 0 in a causal network")
        if self.block_kernel_size % 2 == 0 and (not self.causal or self.block_padding == "late"):
            raise ValueError("block_kernel_size must be odd, unless the network is causal")


SMALL_16K = ConvTasNetConfig(
    sample_rate=16000,
    num_filters=256,
    kernel_size=64,
    stride=32,
    bottleneck_channels=128,
    hidden_channels=256,
    skip_channels=128,
    num_blocks=7,
    num_repeats=2,
)
"""A small network for two talkers at 16 kHz on a CPU: 1.5 M parameters, frames of 4 ms every 2 ms, 1 s of context."""


class ConvTasNet(MaskingModel, name="separation/convtasnet"):
    """Conv-TasNet: fully convolutional time-domain separation.

    Y. Luo, N. Mesgarani, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude Masking for Speech Separation",
    IEEE/ACM TASLP 2019, arXiv 1809.07454; section II, figure 1.

    Published: SI-SNRi 15.3 dB, SDRi 15.6 dB on WSJ0-2Mix; 12.7 dB, 13.1 dB on WSJ0-3Mix; 5.1 M parameters. The default
    configuration has 4.98 M: 0.07 M less, because the residual convolution of the very last block, whose output no
    layer reads, is left out (with it, 5.05 M). Equal to Asteroid's ``ConvTasNet`` with the same weights.
    """

    Config = ConvTasNetConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 16,
        "bottleneck_channels": 8,
        "hidden_channels": 16,
        "skip_channels": 8,
        "num_blocks": 2,
        "num_repeats": 2,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 15.3,
        "SDRi on WSJ0-2Mix (dB)": 15.6,
        "SI-SNRi on WSJ0-3Mix (dB)": 12.7,
        "SDRi on WSJ0-3Mix (dB)": 13.1,
        "parameters (million)": 5.1,
    }

    def __init__(self, config: ConvTasNetConfig) -> None:
        filters = (config.num_filters, config.kernel_size, config.stride)
        encoder = Encoder(*filters, activation=config.encoder_activation)
        super().__init__(config, encoder, TemporalConvMasker(config), Decoder(*filters))

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (B, time) in [-1, 1] into estimates (B, S, time); see :class:`MaskingModel`."""
        edge, stride, num_samples = self.config.edge_padding, self.config.stride, mixture.shape[-1]
        if not edge:
            return super().forward(mixture, lengths)
        padding = (edge, edge + -num_samples % stride)
        if lengths is None:
            return super().forward(F.pad(mixture, padding))[..., edge : edge + num_samples]
        valid = length_mask(lengths, num_samples)
        padded = F.pad(mixture.masked_fill(~valid, 0), padding)
        estimates = super().forward(padded, lengths + -lengths % stride + 2 * edge)
        return estimates[..., edge : edge + num_samples] * valid[:, None]


class TemporalConvMasker(nn.Module):
    """The separation module: R repeats of X blocks whose dilation doubles from block to block (figure 1, B).

    ``block`` makes a block from the configuration, its ``dilation`` and whether it ``has_residual``.
    """

    def __init__(self, config: ConvTasNetConfig, block: Callable[..., nn.Module] | None = None) -> None:
        super().__init__()
        self.num_sources, self.mask_activation = config.num_sources, config.mask_activation
        self.norm = _NORMS[config.norm if config.input_norm == "same" else config.input_norm](config.num_filters)
        self.bottleneck = nn.Conv1d(config.num_filters, config.bottleneck_channels, 1)
        count = config.num_repeats * config.num_blocks
        self.blocks = nn.ModuleList(
            (block or TemporalConvBlock)(
                config,
                dilation=2 ** (index % config.num_blocks),
                has_residual=index < count - 1 or not config.skip_channels,
            )
            for index in range(count)
        )
        self.prelu = nn.PReLU()
        self.to_masks = nn.Conv1d(
            config.skip_channels or config.bottleneck_channels, config.num_sources * config.num_filters, 1
        )

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Features (B, F, N) to masks (B, S, F, N); ``frame_lengths`` (B,) are the valid frames."""
        features = features.transpose(1, 2)
        mask = None if frame_lengths is None else length_mask(frame_lengths, features.shape[-1])[:, None]
        x: Tensor | None = self.bottleneck(self.norm(features, mask))
        skips: Tensor | None = None
        for block in self.blocks:
            residual, skip = block(x, mask)
            x = None if residual is None else x + residual
            skips = skip if skips is None else skips + skip
        return self.masks(cast(Tensor, x if skips is None else skips))

    def masks(self, x: Tensor) -> Tensor:
        """What the blocks made of the frames (B, C, F) to masks (B, S, F, N)."""
        masks: Tensor = self.to_masks(self.prelu(x))
        masks = masks.view(masks.shape[0], self.num_sources, -1, masks.shape[-1])
        if self.mask_activation == "softmax":
            masks = masks.softmax(1)
        else:
            masks = ACTIVATIONS[self.mask_activation](masks)
        return masks.transpose(2, 3)


class TemporalConvBlock(nn.Module):
    """1x1, PReLU, norm, dilated depthwise convolution, PReLU, norm; then residual and skip (figure 1, C)."""

    def __init__(self, config: ConvTasNetConfig, dilation: int, has_residual: bool) -> None:
        super().__init__()
        hidden, norm = config.hidden_channels, _NORMS[config.norm]
        reach = (config.block_kernel_size - 1) * dilation
        # A convolution that looks back more than ahead is padded by all of that on both sides; the surplus at the end
        # is cut off. Mirrored frames are appended before the convolution, which then needs no padding.
        padding = reach if config.causal else reach // 2
        if config.block_padding == "late":
            padding = reach + reach // 2
        self.surplus = 2 * padding - reach
        self.mirrored = reach // 2 if config.block_padding == "reflect" else 0
        self.expand = nn.Conv1d(config.bottleneck_channels, hidden, 1)
        self.prelu1 = ChannelPReLU()
        self.norm1 = norm(hidden)
        self.depthwise = ShiftedDepthwiseConv(
            hidden,
            hidden,
            config.block_kernel_size,
            padding=0 if self.mirrored else padding,
            dilation=dilation,
            groups=hidden,
        )
        self.prelu2 = ChannelPReLU()
        self.norm2 = norm(hidden)
        self.residual = nn.Conv1d(hidden, config.bottleneck_channels, 1) if has_residual else None
        self.skip = nn.Conv1d(hidden, config.skip_channels, 1) if config.skip_channels else None

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Channels (B, C, F) to the residual (B, C, F) and the skip (B, Sc, F), each where the block has one."""
        x = self.norm1(self.prelu1(self.expand(x)), mask)
        if mask is not None:
            # The convolution must see the zeros beyond the last frame that it sees in an example on its own.
            x = x * mask
        if self.mirrored:
            x = mirror(x, self.mirrored, None if mask is None else mask[:, 0].sum(-1))
        x = self.depthwise(x)
        if self.surplus:
            x = x[..., : -self.surplus]
        x = self.norm2(self.prelu2(x), mask)
        if self.residual is None or self.skip is None:
            return (
                None if self.residual is None else self.residual(x),
                None if self.skip is None else self.skip(x),
            )
        # Both at once read the channels once.
        weight = torch.cat([self.residual.weight, self.skip.weight])
        bias = torch.cat([cast(Tensor, self.residual.bias), cast(Tensor, self.skip.bias)])
        both = F.conv1d(x, weight, bias)
        num_residual = self.residual.out_channels
        residual, skip = both[:, :num_residual], both[:, num_residual:]
        return residual, skip
