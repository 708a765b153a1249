"""SuDoRM-RF: a learned filterbank whose features are masked by small U-nets that halve and double the frame rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice, length_mask
from auriscope.separation.kernels import ChannelPReLU, DepthwiseConv, add_upsampled
from auriscope.separation.layers import ACTIVATIONS, Decoder, Encoder, GlobalLayerNorm, MaskingModel

_VARIANTS = ("original", "improved")
_KERNEL_SIZE = 5


@dataclass(frozen=True)
class SuDoRMRFConfig:
    """The configuration of SuDoRM-RF; the defaults are the paper's 1.0x (section 3.3; filters of 21 samples every 10).

    ``variant`` is ``"original"`` or ``"improved"``, its authors' second network, which does without the norms after a
    block and makes the masks by one convolution. ``kernel_size`` and ``stride`` are in samples. Each of ``num_blocks``
    blocks expands ``bottleneck_channels`` to ``hidden_channels`` and takes in ``depth`` frame rates, each half of the
    one before. ``mask_activation`` is ``"softmax"`` (over the sources), ``"sigmoid"``, ``"relu"``, ``"tanh"`` or
    ``"linear"``; None stands for the variant's own, softmax in the original and relu in the improved one.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    variant: str = "original"
    num_filters: int = 512
    kernel_size: int = 21
    stride: int = 10
    bottleneck_channels: int = 128
    hidden_channels: int = 512
    num_blocks: int = 16
    depth: int = 4
    mask_activation: str | None = None

    def __post_init__(self) -> None:
        choice(self.variant, _VARIANTS, "variant")
        if self.mask_activation is not None:
            choice(self.mask_activation, [*ACTIVATIONS, "softmax"], "mask_activation")
        if not 0 < self.stride <= max(1, self.kernel_size // 2):
            raise ValueError("stride must be at least 1 and at most half of kernel_size")
        if self.depth < 1:
            raise ValueError("depth must be at least 1")
        if self.variant == "original" and self.num_filters % 2:
            raise ValueError("num_filters must be even in the original variant")


class SuDoRMRF(MaskingModel, name="separation/sudormrf"):
    """SuDoRM-RF: successive downsampling and resampling of multi-resolution features, by convolutions alone.

    E. Tzinis, Z. Wang, P. Smaragdis, "Sudo rm -rf: Efficient Networks for Universal Audio Source Separation", MLSP
    2020, arXiv 2007.06833; section 2. The improved variant is that of their "Compute and Memory Efficient Universal
    Sound Source Separation", arXiv 2103.02644.

    Published: SI-SNRi 18.9 dB on WSJ0-2Mix; 2.6 M parameters. The original has 2.58 M here, the improved variant
    2.63 M. Equal to Asteroid's ``SuDORMRFNet`` and ``SuDORMRFImprovedNet`` with the same weights. The paper does not
    say how a length is treated that is no multiple of all strides: silence is appended, as its authors' code does.
    """

    Config = SuDoRMRFConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 16,
        "bottleneck_channels": 8,
        "hidden_channels": 16,
        "num_blocks": 2,
        "depth": 3,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 18.9,
        "parameters (million)": 2.6,
    }

    def __init__(self, config: SuDoRMRFConfig) -> None:
        encoder = PaddingEncoder(config)
        super().__init__(config, encoder, ResamplingMasker(config), TrimmingDecoder(config))


class PaddingEncoder(Encoder):
    """The filterbank over a mixture with silence around it, so long that every frame rate has whole frames.

    Appends silence to a multiple of half the filter's length and of 2 ^ depth, then half a filter on both sides.
    """

    def __init__(self, config: SuDoRMRFConfig) -> None:
        activation = "relu" if config.variant == "original" else "linear"
        super().__init__(config.num_filters, config.kernel_size, config.stride, activation)
        self.margin = config.kernel_size // 2
        self.multiple = math.lcm(max(1, self.margin), 2**config.depth)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Frames (B,) that recordings of ``lengths`` (B,) samples have on their own."""
        padded = (lengths + self.multiple - 1) // self.multiple * self.multiple
        return super().num_frames(padded + 2 * self.margin)

    def forward(self, mixture: Tensor) -> Tensor:
        """Analyse a mixture (B, time) into features (B, N, F), which lie in memory as (B, F, N)."""
        surplus = -mixture.shape[-1] % self.multiple
        mixture = F.pad(mixture, (self.margin, self.margin + surplus))
        frames = mixture.unfold(-1, self.kernel_size, self.stride)
        return ACTIVATIONS[self.activation](F.linear(frames, self.weight[:, 0])).transpose(1, 2)


class TrimmingDecoder(Decoder):
    """The synthesis filterbank, without the half filter of silence that the encoder put before the mixture."""

    def __init__(self, config: SuDoRMRFConfig) -> None:
        super().__init__(config.num_filters, config.kernel_size, config.stride)
        self.margin = config.kernel_size // 2

    def forward(self, features: Tensor, num_samples: int) -> Tensor:
        """Synthesise features (B, S, F, N) into ``num_samples`` samples (B, S, num_samples)."""
        return super().forward(features, self.margin + num_samples)[..., self.margin :]


class ResamplingMasker(nn.Module):
    """The separation module: normalise, project, run the blocks, make one mask a source (section 2.2).

    The original makes the masks by a filter a source along the features, as long as there are features and one
    more. That is a matrix, whose product with the projection before it has far fewer entries than the filter has
    products to sum: the two are applied as one.
    """

    def __init__(self, config: SuDoRMRFConfig) -> None:
        super().__init__()
        filters, channels = config.num_filters, config.bottleneck_channels
        self.num_sources, self.original = config.num_sources, config.variant == "original"
        self.depth = config.depth
        self.mask_activation = config.mask_activation or ("softmax" if self.original else "relu")
        self.norm = GlobalLayerNorm(filters, channels_last=True)
        self.bottleneck = nn.Linear(filters, channels)
        self.blocks = nn.ModuleList(ResamplingBlock(config) for _ in range(config.num_blocks))
        if self.original:
            self.to_features = nn.Linear(channels, filters) if channels != filters else None
            self.along_features = nn.Conv1d(1, config.num_sources, filters + 1)
        else:
            self.prelu = ChannelPReLU()
            self.to_masks = nn.Linear(channels, config.num_sources * filters)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Features (B, F, N) to masks (B, S, F, N); ``frame_lengths`` (B,) are the valid frames."""
        num_frames = features.shape[1]
        masks = None
        if frame_lengths is not None:
            masks = [length_mask(frame_lengths, num_frames)[..., None]]
            for _ in range(self.depth - 1):
                # Half as many frames, rounded up.
                frame_lengths, num_frames = (frame_lengths + 1) // 2, (num_frames + 1) // 2
                masks.append(length_mask(frame_lengths, num_frames)[..., None])
        x = self.bottleneck(self.norm(features, None if masks is None else masks[0]))
        for block in self.blocks:
            x = block(x, masks)
        x = F.linear(x, *self._mask_matrix()) if self.original else self.to_masks(self.prelu(x))
        x = x.view(*x.shape[:2], self.num_sources, -1).transpose(1, 2)
        return x.softmax(1) if self.mask_activation == "softmax" else ACTIVATIONS[self.mask_activation](x)

    def _mask_matrix(self) -> tuple[Tensor, Tensor]:
        """What maps channels to masks in the original: a matrix (S N, C) and a bias (S N,)."""
        weight = self.along_features.weight[:, 0]
        size = weight.shape[-1] - 1
        # Row n of a source reads feature m through entry m - n + N / 2 of its filter, where there is one.
        padded = F.pad(weight, (size // 2 - 1, size // 2 - 1))
        rows = padded.unfold(-1, size, 1).flip(1)
        bias = self.along_features.bias
        assert bias is not None
        biases = bias[:, None].expand(-1, size)
        if self.to_features is not None:
            biases = biases + rows @ self.to_features.bias
            rows = rows @ self.to_features.weight
        return rows.reshape(self.num_sources * size, -1), biases.reshape(-1)


class ResamplingBlock(nn.Module):
    """A U-ConvBlock: expand, halve the frame rate again and again, sum all rates, reduce, add the input (figure 2)."""

    def __init__(self, config: SuDoRMRFConfig) -> None:
        super().__init__()
        channels, hidden = config.bottleneck_channels, config.hidden_channels
        original = config.variant == "original"
        self.expand = nn.Linear(channels, hidden)
        self.expand_norm = GlobalLayerNorm(hidden, channels_last=True)
        self.expand_prelu = ChannelPReLU(hidden if original else 1)
        self.convolutions = nn.ModuleList(
            DepthwiseConv(hidden, _KERNEL_SIZE, stride=2 if level else 1) for level in range(config.depth)
        )
        self.norms = nn.ModuleList(GlobalLayerNorm(hidden, channels_last=True) for _ in range(config.depth))
        self.sum_norm = GlobalLayerNorm(hidden, channels_last=True)
        self.sum_prelu = ChannelPReLU(hidden)
        self.reduce = nn.Linear(hidden, channels)
        self.reduce_norm = GlobalLayerNorm(channels, channels_last=True) if original else None
        self.output_norm = GlobalLayerNorm(channels, channels_last=True) if original else None
        self.output_prelu = ChannelPReLU(channels) if original else None

    def forward(self, x: Tensor, masks: list[Tensor] | None = None) -> Tensor:
        """Process frames (B, F, C); ``masks`` (B, F / 2 ^ level, 1) mark the valid ones at every rate."""
        mask = None if masks is None else masks[0]
        frames = self.expand_prelu(self.expand_norm(self.expand(x), mask))
        rates: list[Tensor] = []
        for level, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            if masks is not None:
                # The convolution must see the zeros beyond the last frame that it sees in an example on its own.
                frames = frames * masks[max(0, level - 1)]
            frames = norm(convolution(frames), None if masks is None else masks[level])
            rates.append(frames)
        total = rates.pop()
        while rates:
            total = add_upsampled(rates.pop(), total)
        update: Tensor = self.reduce(self.sum_prelu(self.sum_norm(total, mask)))
        if self.reduce_norm is None or self.output_norm is None or self.output_prelu is None:
            return x + update
        output: Tensor = self.output_prelu(self.output_norm(self.reduce_norm(update, mask) + x, mask))
        return output
