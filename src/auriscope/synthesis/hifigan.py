"""HiFi-GAN, a vocoder of transposed convolutions and residual blocks of several widths, trained against listeners.

Kong, Kim and Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis"
(arXiv 2010.05646), section 2.2 and appendix A.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from auriscope.nn.masks import mirror
from auriscope.nn.packed import packable
from auriscope.signal.vocoding import MelConfig
from auriscope.synthesis.vocoder import Vocoder, VocoderConfig, each_alone

_SLOPE = 0.1
# Before the last convolution it is another one in the paper's code.
_LAST_SLOPE = 0.01


@dataclass(frozen=True)
class HiFiGANConfig(VocoderConfig):
    """The configuration of HiFi-GAN; the defaults are the paper's V1, :meth:`v2` and :meth:`v3` the smaller ones.

    Args:
        mel: the mels that it reads; their hop must be the product of ``rates``.
        num_channels: channels of the first layer, halved with each upsampling.
        rates: by how much each transposed convolution lengthens.
        kernel_sizes: their kernels.
        block: "1": residual blocks of pairs of convolutions, the second of each undilated; "2": of single ones.
        block_kernel_sizes: kernels of the blocks beside each other, whose outputs are averaged.
        block_dilations: dilations of the convolutions of each of them.
        pad_mode: what convolutions see beyond the ends: "zeros" in the paper's code, "reflect" in SpeechBrain's.
        edge_frames: outside training, so many copies of the first and last frame stand before and behind the mel, and
            what they sound like is cut off.
    """

    num_channels: int = 512
    rates: tuple[int, ...] = (8, 8, 2, 2)
    kernel_sizes: tuple[int, ...] = (16, 16, 4, 4)
    block: Literal["1", "2"] = "1"
    block_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    block_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    pad_mode: Literal["zeros", "reflect"] = "zeros"
    edge_frames: int = 5

    def __post_init__(self) -> None:
        if math.prod(self.rates) != self.mel.hop_length:
            raise ValueError(f"the product of rates must be the hop of the mels, {self.mel.hop_length}")
        if len(self.kernel_sizes) != len(self.rates) or len(self.block_dilations) != len(self.block_kernel_sizes):
            raise ValueError("there must be as many kernel_sizes as rates, and block_dilations as block_kernel_sizes")
        if any(size < rate or (size - rate) % 2 for size, rate in zip(self.kernel_sizes, self.rates, strict=True)):
            raise ValueError("kernel_sizes must be rates, or larger than those by an even number")
        if self.num_channels % 2 ** len(self.rates) or any(size % 2 == 0 for size in self.block_kernel_sizes):
            raise ValueError("num_channels must be halved with each rate, and block_kernel_sizes be odd")
        if self.edge_frames < 0:
            raise ValueError("edge_frames must not be negative")

    @classmethod
    def v2(cls, mel: MelConfig = VocoderConfig.mel) -> HiFiGANConfig:
        """The paper's V2, of 0.93 M parameters."""
        return cls(mel=mel, num_channels=128)

    @classmethod
    def v3(cls, mel: MelConfig = VocoderConfig.mel) -> HiFiGANConfig:
        """The paper's V3, of 1.46 M parameters, the fastest."""
        return cls(
            mel=mel,
            num_channels=256,
            rates=(8, 8, 4),
            kernel_sizes=(16, 16, 8),
            block="2",
            block_kernel_sizes=(3, 5, 7),
            block_dilations=((1, 2), (2, 6), (3, 12)),
        )


class NormedConvolution(nn.Module):
    """A convolution over time, the weights of each channel of which are a ``direction`` and a ``length``.

    Salimans and Kingma, "Weight Normalization" (arXiv 1602.07868), equation 2. ``stride`` above 1 makes the convolution
    a transposed one, which lengthens by that factor. :meth:`forward` takes (batch, channels, time); :meth:`quick`
    computes the same without gradients, channels last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        pad_mode: str = "zeros",
    ) -> None:
        super().__init__()
        self.dilation, self.stride, self.mirrored = dilation, stride, pad_mode == "reflect" and stride == 1
        self.padding = (kernel_size - stride) // 2 if stride > 1 else (kernel_size - 1) * dilation // 2
        layer: Any = (
            nn.ConvTranspose1d(in_channels, out_channels, kernel_size, stride)
            if stride > 1
            else nn.Conv1d(in_channels, out_channels, kernel_size)
        )
        self.direction = nn.Parameter(layer.weight.detach())
        self.length = nn.Parameter(self.direction.detach().norm(dim=(1, 2), keepdim=True))
        self.bias = nn.Parameter(layer.bias.detach())
        self._kept: tuple[tuple[int, ...], Tensor] | None = None

    def weight(self) -> Tensor:
        """The weights (out, in, kernel), or (in, out, kernel) of a transposed one."""
        joined: Tensor = self.direction * (self.length / self.direction.norm(dim=(1, 2), keepdim=True))
        return joined

    def forward(self, signal: Tensor, slope: float = 1.0) -> Tensor:
        """Convolve a leaky rectification of (batch, channels, time)."""
        signal = functional.leaky_relu(signal, slope) if slope != 1.0 else signal
        if self.stride > 1:
            return functional.conv_transpose1d(signal, self.weight(), self.bias, self.stride, self.padding)
        if self.mirrored:
            signal = mirror(signal, self.padding)
        padding = 0 if self.mirrored else self.padding
        return functional.conv1d(signal, self.weight(), self.bias, padding=padding, dilation=self.dilation)

    def quick(self, signal: Tensor, slope: float = 1.0) -> Tensor:
        """Convolve a leaky rectification of pictures (batch, channels, 1, time), the channels last in memory."""
        padding = self.padding
        if self.mirrored and signal.shape[-1] > padding:
            signal, padding = self._framed(signal, slope), 0
        elif self.mirrored:
            signal, padding = mirror(functional.leaky_relu(signal, slope)[:, :, 0], padding)[:, :, None], 0
        elif slope != 1.0:
            signal = functional.leaky_relu(signal, slope)
        weight = self._kept_weight()
        if self.stride > 1:
            return functional.conv_transpose2d(signal, weight, self.bias, (1, self.stride), (0, padding))
        return functional.conv2d(signal, weight, self.bias, padding=(0, padding), dilation=(1, self.dilation))

    def _framed(self, signal: Tensor, slope: float) -> Tensor:
        """Rectify, and mirror at both ends, in one pass."""
        width, time = self.padding, signal.shape[-1]
        shape = (*signal.shape[:-1], time + 2 * width)
        framed = torch.empty(shape, dtype=signal.dtype, memory_format=torch.channels_last)
        inside = framed[..., width : width + time]
        torch.ops.aten.leaky_relu.out(signal, slope, out=inside)
        framed[..., :width] = inside[..., 1 : width + 1].flip(-1)
        framed[..., width + time :] = inside[..., time - 1 - width : time - 1].flip(-1)
        return framed

    def _kept_weight(self) -> Tensor:
        """The weights as pictures, joined once and kept until they change, in place or anew."""
        state = tuple(
            number for tensor in (self.direction, self.length) for number in (tensor.data_ptr(), tensor._version)
        )
        if self._kept is None or self._kept[0] != state:
            self._kept = state, self.weight()[:, :, None].contiguous(memory_format=torch.channels_last)
        return self._kept[1]


class ResidualBlock(nn.Module):
    """Convolutions over time, each added to what it is given (the paper's figure 1, right)."""

    def __init__(self, num_channels: int, kernel_size: int, dilations: tuple[int, ...], paired: bool, pad: str) -> None:
        super().__init__()

        def convolution(dilation: int) -> NormedConvolution:
            return NormedConvolution(num_channels, num_channels, kernel_size, dilation=dilation, pad_mode=pad)

        self.first = nn.ModuleList(map(convolution, dilations))
        self.second = nn.ModuleList(convolution(1) for _ in dilations) if paired else None
        self.reach = kernel_size // 2 * (sum(dilations) + (len(dilations) if paired else 0))

    def forward(self, signal: Tensor) -> Tensor:
        """Transform (batch, channels, time)."""
        for index, first in enumerate(self.first):
            change = first(signal, _SLOPE)
            if self.second is not None:
                change = self.second[index](change, _SLOPE)
            signal = signal + change
        return signal

    def quick(self, signal: Tensor) -> Tensor:
        """Transform (batch, channels, 1, time), the channels last in memory, without gradients."""
        first: Any
        for index, first in enumerate(self.first):
            change = first.quick(signal, _SLOPE)
            if self.second is not None:
                second: Any = self.second[index]
                change = second.quick(change, _SLOPE)
            signal = change.add_(signal)
        return signal


class HiFiGAN(Vocoder, name="synthesis/hifigan"):
    """Turn log-mels (batch, frames, mels) into waveforms (batch, time) in [-1, 1]."""

    Config = HiFiGANConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "mel": MelConfig(16_000, 64, 16, 64, 8),
        "num_channels": 8,
        "rates": (4, 4),
        "kernel_sizes": (8, 8),
        "block_kernel_sizes": (3, 5),
        "block_dilations": ((1, 3), (1, 2)),
    }
    Published: ClassVar[dict[str, float]] = {"mean opinion, V1 on LJSpeech (1 to 5)": 4.36}

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__(config)
        channels, pad = config.num_channels, config.pad_mode
        self.first = NormedConvolution(config.mel.num_mels, channels, 7, pad_mode=pad)
        self.rises = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for rate, kernel_size in zip(config.rates, config.kernel_sizes, strict=True):
            self.rises.append(NormedConvolution(channels, channels // 2, kernel_size, stride=rate))
            channels //= 2
            for size, dilations in zip(config.block_kernel_sizes, config.block_dilations, strict=True):
                self.blocks.append(ResidualBlock(channels, size, dilations, config.block == "1", pad))
        self.last = NormedConvolution(channels, 1, 7, pad_mode=pad)
        self.context_frames = self._context()

    def _context(self) -> int:
        """How many frames to either side a sample depends on, the reach of every layer counted in frames."""
        config = self.config
        rate, reach = 1, 3.0
        for factor, kernel_size, blocks in zip(config.rates, config.kernel_sizes, self._stages(), strict=True):
            reach += math.ceil(kernel_size / factor) / rate
            rate *= factor
            reach += max(block.reach for block in blocks) / rate
        return math.ceil(reach + 3 / rate)

    def _stages(self) -> list[list[Any]]:
        size = len(self.config.block_kernel_sizes)
        blocks = list(self.blocks)
        return [blocks[begin : begin + size] for begin in range(0, len(blocks), size)]

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Turn log-mels (batch, frames, mels) into waveforms (batch, frames * hop_length)."""
        if lengths is not None and bool((lengths < mel.shape[1]).any()):
            return each_alone(self, mel, lengths)
        edge = 0 if self.training else self.config.edge_frames
        if edge:
            before, behind = mel[:, :1].expand(-1, edge, -1), mel[:, -1:].expand(-1, edge, -1)
            mel = torch.cat((before, mel, behind), 1)
        features = mel.transpose(1, 2)
        signal = self._quick(features) if packable(mel, self.first.direction) else self._plain(features)
        cut = edge * self.config.mel.hop_length
        return torch.tanh(signal[:, cut : signal.shape[1] - cut])

    def _plain(self, features: Tensor) -> Tensor:
        signal = self.first(features)
        for rise, blocks in zip(self.rises, self._stages(), strict=True):
            signal = rise(signal, _SLOPE)
            signal = torch.stack([block(signal) for block in blocks]).mean(0)
        last: Tensor = self.last(signal, _LAST_SLOPE)
        return last[:, 0]

    def _quick(self, features: Tensor) -> Tensor:
        # On a CPU, convolutions of pictures whose channels are last in memory take half the time of others.
        signal = self.first.quick(features[:, :, None])
        rise: Any
        for rise, blocks in zip(self.rises, self._stages(), strict=True):
            signal = rise.quick(signal, _SLOPE)
            total = blocks[0].quick(signal)
            for block in blocks[1:]:
                total.add_(block.quick(signal))
            signal = total.div_(len(blocks))
        return self.last.quick(signal, _LAST_SLOPE)[:, 0, 0]
