"""HTS-AT: a Swin transformer over log-mel features, whose frames are folded into a square image.

K. Chen et al., "HTS-AT: A Hierarchical Token-Semantic Audio Transformer for Sound Classification and Detection" (arXiv
2202.00874), section 2, without the classes; the layers are those of Z. Liu et al., "Swin Transformer" (arXiv
2103.14030). The fusion of a long recording's pieces is that of Y. Wu et al., "Large-Scale Contrastive Language-Audio
Pretraining" (arXiv 2211.06687), section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.cnn14 import MapNorm


@dataclass(frozen=True)
class HTSATConfig:
    """The configuration of an HTS-AT; the defaults are those of the paper's network, as CLAP has it.

    Args:
        num_mels: of the features; they divide ``image_size``.
        image_size: height and width of the image, into which up to image_size² / num_mels frames are folded.
        patch_size: height and width of a patch.
        dim: channels of a patch; every stage but the first doubles them.
        num_layers: of each stage.
        num_heads: of each stage.
        window_size: height and width, in patches, of what an attention sees at once.
        mlp_ratio: channels between the linear layers of a block, over those around them.
        dropout: probability behind the linear layers.
        fuses: whether pieces of a longer recording can be joined to the whole of it.
        fusion_ratio: by how much the attention of the fusion narrows its channels.
    """

    num_mels: int = 64
    image_size: int = 256
    patch_size: int = 4
    dim: int = 96
    num_layers: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    window_size: int = 8
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    fuses: bool = False
    fusion_ratio: int = 4

    def __post_init__(self) -> None:
        if not self.num_layers or len(self.num_layers) != len(self.num_heads):
            raise ValueError("num_layers and num_heads must name as many stages, one at least")
        if self.image_size % self.num_mels or self.image_size % self.patch_size:
            raise ValueError("image_size must be a multiple of num_mels and of patch_size")
        for stage, (size, heads) in enumerate(zip(self.sizes, self.num_heads, strict=True)):
            if not size or size * 2**stage * self.patch_size != self.image_size or size % min(size, self.window_size):
                raise ValueError(f"an image of {self.image_size} does not divide into the windows of stage {stage + 1}")
            if (self.dim * 2**stage) % heads:
                raise ValueError(f"the channels of stage {stage + 1} must be a multiple of its heads, {heads}")
        if self.fuses and not 0 < self.fusion_ratio <= self.dim:
            raise ValueError("fusion_ratio must be at least 1 and at most dim")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Height and width of each stage, in patches."""
        return tuple(self.image_size // self.patch_size // 2**stage for stage in range(len(self.num_layers)))

    @property
    def num_frames(self) -> int:
        """How many frames fit into the image."""
        return self.image_size * (self.image_size // self.num_mels)


class WindowAttention(nn.Module):
    """Self-attention within windows of patches, with a learnt bias for how far one patch lies from another.

    ``size`` is the height and width of the image, ``shift`` by how much the windows are moved, so that those of one
    block cross the borders of those of another; patches that only the moving has made neighbours do not see each other.
    """

    offsets: Tensor
    apart: Tensor

    def __init__(self, dim: int, num_heads: int, size: int, window: int, shift: int) -> None:
        super().__init__()
        self.num_heads, self.size, self.window, self.shift = num_heads, size, window, shift
        self.project, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        rows, columns = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
        offsets = (rows[:, None] - rows + window - 1) * (2 * window - 1) + columns[:, None] - columns + window - 1
        self.register_buffer("offsets", offsets, persistent=False)
        if shift:
            edges = torch.arange(size)
            region = (edges >= size - window).long() + (edges >= size - shift).long()
            regions = self._windows((3 * region[:, None] + region)[None, ..., None])[0, ..., 0]
            apart = torch.where(regions[:, None] == regions[..., None], 0.0, -100.0)
            self.register_buffer("apart", apart, persistent=False)

    def _windows(self, image: Tensor) -> Tensor:
        """Cut (batch, size, size, channels) into (batch, windows, patches, channels)."""
        batch, number, window = len(image), self.size // self.window, self.window
        cut = image.reshape(batch, number, window, number, window, -1).transpose(2, 3)
        return cut.reshape(batch, number * number, window * window, -1)

    def forward(self, image: Tensor) -> Tensor:
        """Go from (batch, size, size, dim) to as much."""
        if self.shift:
            image = image.roll((-self.shift, -self.shift), (1, 2))
        windows = self._windows(image)
        batch, number, patches, dim = windows.shape
        heads = self.project(windows).view(batch, number, patches, 3, self.num_heads, -1).permute(3, 0, 1, 4, 2, 5)
        mask = self.bias[self.offsets].permute(2, 0, 1)
        if self.shift:
            mask = (self.apart[:, None] + mask).flatten(0, 1)
        else:
            mask = mask.repeat(number, 1, 1)
        # The windows of an image take the place of heads, so that the mask is there once for all images.
        query, key, value = heads.flatten(2, 3).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, mask[None])
        mixed = mixed.view(batch, number, self.num_heads, patches, -1).transpose(2, 3).reshape(windows.shape)
        rows = self.size // self.window
        image = self.out(mixed).view(batch, rows, rows, self.window, self.window, dim).transpose(2, 3)
        image = image.reshape(batch, self.size, self.size, dim)
        return image.roll((self.shift, self.shift), (1, 2)) if self.shift else image


class SwinBlock(nn.Module):
    """Attention within windows and two linear layers, each beside a residual path and behind a norm."""

    def __init__(self, config: HTSATConfig, stage: int, *, shifted: bool) -> None:
        super().__init__()
        dim, size = config.dim * 2**stage, config.sizes[stage]
        window = min(size, config.window_size)
        shift = window // 2 if shifted and window < size else 0
        hidden_size = int(config.mlp_ratio * dim)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, config.num_heads[stage], size, window, shift)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, hidden_size), nn.GELU(), nn.Linear(hidden_size, dim), nn.Dropout(config.dropout)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Go from (batch, size, size, dim) to as much."""
        image = image + self.attention(self.attention_norm(image))
        joined: Tensor = image + self.feed_forward(self.feed_forward_norm(image))
        return joined


class PatchMerging(nn.Module):
    """Four neighbours become one patch of twice the channels: (batch, size, size, dim) to (…, size / 2, 2 dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Merge."""
        parts = [image[:, row::2, column::2] for column in range(2) for row in range(2)]
        merged: Tensor = self.reduce(self.norm(torch.cat(parts, -1)))
        return merged


class Fusion(nn.Module):
    """How much of the whole and how much of its pieces is heard, by channel and place: attentional feature fusion.

    Y. Dai et al., "Attentional Feature Fusion" (arXiv 2009.14082), equation 3, as arXiv 2211.06687 has it.
    """

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.local, self.everywhere = _narrow(dim, dim // ratio), _narrow(dim, dim // ratio)

    def forward(self, whole: Tensor, pieces: Tensor) -> Tensor:
        """Join maps (batch, dim, height, width)."""
        both = whole + pieces
        share: Tensor = (self.local(both) + self.everywhere(both.mean((2, 3), keepdim=True))).sigmoid()
        return 2.0 * whole * share + 2.0 * pieces * (1.0 - share)


def _narrow(dim: int, narrow: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(dim, narrow, 1), nn.BatchNorm2d(narrow), nn.ReLU(), nn.Conv2d(narrow, dim, 1), nn.BatchNorm2d(dim)
    )


class Patches(nn.Module):
    """An image to its patches, (batch, size, size, dim); those of a longer recording are joined by pieces of it."""

    def __init__(self, config: HTSATConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.project = nn.Conv2d(1, config.dim, size, size)
        self.norm = nn.LayerNorm(config.dim)
        if config.fuses:
            self.pieces = nn.Conv2d(1, config.dim, (size, 3 * size), (size, 3 * size))
            self.fusion = Fusion(config.dim, config.fusion_ratio)

    def forward(self, whole: Tensor, pieces: Tensor | None = None) -> Tensor:
        """Make patches of the whole (batch, height, width), and of its pieces (batch, pieces, height, width)."""
        maps = self.project(whole[:, None])
        if pieces is not None:
            beside = self.pieces(pieces.flatten(0, 1)[:, None])
            beside = beside.view(*pieces.shape[:2], *beside.shape[1:]).permute(0, 2, 3, 1, 4).flatten(3)
            maps = self.fusion(maps, F.pad(beside, (0, maps.shape[3] - beside.shape[3])))
        patches: Tensor = self.norm(maps.permute(0, 2, 3, 1))
        return patches


class HTSAT(nn.Module):
    """Log-mel features in decibels, (batch, frames, num_mels), to one vector (batch, dim).

    Frames that are fewer than ``config.num_frames`` are stretched to fill the image. Equal to transformers'
    ``ClapAudioModel`` with the same weights.
    """

    def __init__(self, config: HTSATConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim * 2 ** (len(config.num_layers) - 1)
        self.mel_norm = MapNorm(config.num_mels)
        self.patches = Patches(config)
        self.stages = nn.ModuleList()
        for stage, number in enumerate(config.num_layers):
            merging = [PatchMerging(config.dim * 2 ** (stage - 1))] if stage else []
            blocks = [SwinBlock(config, stage, shifted=bool(index % 2)) for index in range(number)]
            self.stages.append(nn.Sequential(*merging, *blocks))
        self.norm = nn.LayerNorm(self.dim)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None, pieces: Tensor | None = None) -> Tensor:
        """Hear features (batch, frames, num_mels), of which ``frame_lengths`` (batch,) frames are valid.

        None: all are. If the network fuses, ``pieces`` (batch, 3, frames, num_mels) are parts of recordings of which
        ``features`` are the whole, shrunk. ``ValueError`` for more frames than fit into the image.
        """
        normed = self._normed(features, frame_lengths)
        if frame_lengths is None:
            image = self._folded(normed)
        else:
            ends = frame_lengths.tolist()
            image = torch.cat([self._folded(row[None, :end]) for row, end in zip(normed, ends, strict=True)])
        beside = None
        if pieces is not None:
            parts = self._folded(self._normed(pieces.flatten(0, 1), None))
            beside = parts.view(*pieces.shape[:2], *parts.shape[1:])
        x = self.patches(image, beside)
        for stage in self.stages:
            x = stage(x)
        vector: Tensor = self.norm(x).mean((1, 2))
        return vector

    def _normed(self, features: Tensor, frame_lengths: Tensor | None) -> Tensor:
        normed: Tensor = self.mel_norm(features[:, None].transpose(1, 3), frame_lengths)
        return normed.transpose(1, 3)[:, 0]

    def _folded(self, features: Tensor) -> Tensor:
        """Stretch features (batch, frames, num_mels) and lay their parts one below the other: a square image."""
        config = self.config
        frames, ratio = features.shape[1], config.image_size // config.num_mels
        if frames > config.num_frames:
            raise ValueError(f"{frames} frames do not fit into an image of {config.num_frames}: hear it in windows")
        if frames < config.num_frames:
            size = (config.num_frames, config.num_mels)
            features = F.interpolate(features[:, None], size, mode="bicubic", align_corners=True)[:, 0]
        return features.reshape(-1, ratio, config.image_size, config.num_mels).mT.flatten(1, 2)
