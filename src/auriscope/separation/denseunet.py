"""The Dense-UNet: a U-shaped network over time and frequency whose every stage is a densely connected block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask
from auriscope.separation.layers import GlobalLayerNorm


class DenseUNet(nn.Module):
    """Dense blocks on ever coarser grids of time and frequency, and back up, with shortcuts between equal grids.

    Y. Liu, D. Wang, arXiv 1904.11148, section III.A, figures 2 and 3. Halving is a depthwise convolution of 2 x 2,
    doubling a transposed one. Grids of odd size are filled up with zeros.

    Args:
        num_in: channels of the input.
        num_out: channels of the output.
        num_bins: frequencies of both.
        num_channels: of every layer.
        num_layers: of every dense block.
        num_scales: how often time and frequency are halved.
        dropout: before every halving, in training.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        num_bins: int,
        *,
        num_channels: int,
        num_layers: int,
        num_scales: int,
        dropout: float,
    ) -> None:
        super().__init__()
        sizes = [num_bins]
        for _ in range(num_scales):
            sizes.append((sizes[-1] + 1) // 2)
        self.first = DenseBlock(num_in, num_channels, num_layers, num_bins)
        self.dropout = nn.Dropout(dropout)
        self.halvings = nn.ModuleList(
            nn.Conv2d(num_channels, num_channels, 2, stride=2, groups=num_channels, bias=False) for _ in sizes[1:]
        )
        self.down = nn.ModuleList(DenseBlock(num_channels, num_channels, num_layers, size) for size in sizes[1:])
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(num_channels, num_channels, 2, stride=2) for _ in sizes[1:])
        self.doubling_norms = nn.ModuleList(GlobalLayerNorm(num_channels) for _ in sizes[1:])
        self.up = nn.ModuleList(
            DenseBlock(2 * num_channels, num_channels, num_layers, size) for size in reversed(sizes[:-1])
        )
        self.hidden = nn.Conv2d(num_channels, num_channels, 1)
        self.output = nn.Conv2d(num_channels, num_out, 1)

    def forward(self, image: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """An image (B, num_in, K, F) to (B, num_out, K, F); ``frame_lengths`` (B,) are the valid frames."""
        masks = [_image_mask(frame_lengths, image.shape[-1])]
        x = self.first(image, masks[0])
        shortcuts = []
        for halve, block in zip(self.halvings, self.down, strict=True):
            shortcuts.append(x)
            frame_lengths = None if frame_lengths is None else (frame_lengths + 1) // 2
            x = halve(F.pad(self.dropout(x), (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)))
            masks.append(_image_mask(frame_lengths, x.shape[-1]))
            x = block(x, masks[-1])
        for double, norm, block in zip(self.doublings, self.doubling_norms, self.up, strict=True):
            masks.pop()
            shortcut = shortcuts.pop()
            x = double(x)[..., : shortcut.shape[-2], : shortcut.shape[-1]]
            x = _masked(norm(F.elu(x), masks[-1]), masks[-1])
            x = block(torch.cat([shortcut, x], dim=1), masks[-1])
        output: Tensor = self.output(F.elu(self.hidden(x)))
        return output


class DenseBlock(nn.Module):
    """Layers that each see the block's input and all layers before; the middle one maps the frequencies."""

    def __init__(self, num_in: int, num_channels: int, num_layers: int, num_bins: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            FrequencyMapping(num_in + index * num_channels, num_channels, num_bins)
            if index == num_layers // 2
            else DenseLayer(num_in + index * num_channels, num_channels, kernel_size=(3, 3))
            for index in range(num_layers)
        )

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """An image (B, num_in, K, F) to that of the last layer, (B, C, K, F)."""
        last = image
        for index, layer in enumerate(self.layers):
            image = image if index == 0 else torch.cat([image, last], dim=1)
            last = layer(image, mask)
        return last


class DenseLayer(nn.Module):
    """Convolution over (frequency, time), ELU, global layer norm."""

    def __init__(self, num_in: int, num_channels: int, kernel_size: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            num_in, num_channels, kernel_size, padding=(kernel_size[0] // 2, kernel_size[1] // 2)
        )
        self.norm = GlobalLayerNorm(num_channels)

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """An image (B, num_in, K, F) to (B, C, K, F); where ``mask`` (B, 1, 1, F) is false, zeros."""
        return _masked(self.norm(F.elu(self.convolution(image)), mask), mask)


class FrequencyMapping(nn.Module):
    """A 1x1 convolution, then one linear map of all frequencies to all; ELU and global layer norm after both."""

    def __init__(self, num_in: int, num_channels: int, num_bins: int) -> None:
        super().__init__()
        self.channels = DenseLayer(num_in, num_channels, kernel_size=(1, 1))
        self.frequencies = nn.Linear(num_bins, num_bins)
        self.norm = GlobalLayerNorm(num_channels)

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """An image (B, num_in, K, F) to (B, C, K, F)."""
        mapped = self.frequencies.weight @ self.channels(image, mask) + self.frequencies.bias[:, None]
        return _masked(self.norm(F.elu(mapped), mask), mask)


def _image_mask(frame_lengths: Tensor | None, num_frames: int) -> Tensor | None:
    return None if frame_lengths is None else length_mask(frame_lengths, num_frames)[:, None, None]


def _masked(image: Tensor, mask: Tensor | None) -> Tensor:
    # The next convolution must see the zeros beyond the last frame that it sees in an example on its own.
    return image if mask is None else image * mask
