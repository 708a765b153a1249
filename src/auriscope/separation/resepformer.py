"""RE-SepFormer: transformers within chunks that do not overlap, and across one summary of each chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask
from auriscope.separation.layers import Decoder, Encoder, GlobalLayerNorm, MaskingModel, run_in_slices
from auriscope.separation.sepformer import TransformerPath

# SpeechBrain's, where it normalises what a transformer gives.
_EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class RESepFormerConfig:
    """The configuration of RE-SepFormer; the defaults are those of the published model.

    ``kernel_size`` and ``stride`` are in samples, ``chunk_size`` in frames. ``num_blocks`` transformers of
    ``num_chunk_layers`` layers work within the chunks, and one of ``num_memory_layers`` across their summaries between
    each two of them.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    num_filters: int = 128
    kernel_size: int = 16
    stride: int = 8
    chunk_size: int = 150
    num_blocks: int = 2
    num_chunk_layers: int = 8
    num_memory_layers: int = 8
    num_heads: int = 8
    feedforward_size: int = 1024

    def __post_init__(self) -> None:
        if self.num_filters % self.num_heads or self.num_filters % 2:
            raise ValueError("num_filters must be even and a multiple of num_heads")
        if self.chunk_size < 1 or self.num_blocks < 1:
            raise ValueError("chunk_size and num_blocks must be at least 1")


class RESepFormer(MaskingModel, name="separation/resepformer"):
    """RE-SepFormer: SepFormer on chunks that do not overlap, joined by a transformer over their means.

    L. Della Libera, C. Subakan, M. Ravanelli, S. Cornell, F. Lepoutre, F. Grondin, "Resource-Efficient Separation
    Transformer", ICASSP 2024, arXiv 2206.09507; section 2.

    Published: SI-SNRi 18.6 dB on WSJ0-2Mix (with dynamic mixing); 8.0 M parameters (7.96 M here). Equal to
    SpeechBrain's ``ResourceEfficientSeparator`` with the same weights, for one mixture at a time: theirs runs the
    memory across all chunks of a batch, so that the mixtures of a batch see each other; here each sees its own.

    Open in the paper, and here as in its authors' implementation: every sequence gets sinusoidal positions; what a
    transformer gives is normalised over its whole sequence and added to its input; the last chunk is filled with
    zeros, at least one, which count in its mean.
    """

    Config = RESepFormerConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 16,
        "chunk_size": 20,
        "num_chunk_layers": 1,
        "num_memory_layers": 1,
        "num_heads": 2,
        "feedforward_size": 32,
    }
    Published: ClassVar[dict[str, float]] = {"SI-SNRi on WSJ0-2Mix (dB)": 18.6, "parameters (million)": 8.0}

    def __init__(self, config: RESepFormerConfig) -> None:
        filters = (config.num_filters, config.kernel_size, config.stride)
        super().__init__(config, Encoder(*filters, activation="relu"), MemoryMasker(config), Decoder(*filters))


class MemoryMasker(nn.Module):
    """From features to one mask per source by transformers within chunks and a memory across them."""

    def __init__(self, config: RESepFormerConfig) -> None:
        super().__init__()
        self.chunk_size, self.num_sources = config.chunk_size, config.num_sources
        self.blocks = nn.ModuleList(
            NormalisedTransformer(config, config.num_chunk_layers) for _ in range(config.num_blocks)
        )
        self.memories = nn.ModuleList(
            NormalisedTransformer(config, config.num_memory_layers) for _ in range(config.num_blocks - 1)
        )
        self.prelu = nn.PReLU()
        self.to_masks = nn.Linear(config.num_filters, config.num_filters * config.num_sources)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Features (B, F, N) to masks (B, S, F, N); ``frame_lengths`` (B,) are the valid frames."""
        batch, num_frames, channels = features.shape
        if frame_lengths is not None:
            # The last chunk of every example is filled with zeros, and attends to them, as it does alone.
            features = features * length_mask(frame_lengths, num_frames)[..., None]
        padding = self.chunk_size - num_frames % self.chunk_size
        chunks = F.pad(features, (0, 0, 0, padding)).view(batch, -1, self.chunk_size, channels)
        num_chunks = None if frame_lengths is None else frame_lengths // self.chunk_size + 1
        for index, block in enumerate(self.blocks):
            chunks = run_in_slices(block, chunks, None)
            if index < len(self.memories):
                summaries = self.memories[index](chunks.mean(2), num_chunks)
                chunks = chunks + summaries[:, :, None]
        x = self.to_masks(self.prelu(chunks.flatten(1, 2)[:, :num_frames]))
        # Sources lie closest together in the last dimension, as in the published weights.
        return torch.relu(x).view(batch, num_frames, channels, self.num_sources).permute(0, 3, 1, 2)


class NormalisedTransformer(nn.Module):
    """A transformer over sequences, normalised over all of each sequence, and added to its input."""

    slice_positions = TransformerPath.slice_positions

    def __init__(self, config: RESepFormerConfig, num_layers: int) -> None:
        super().__init__()
        self.transformer = TransformerPath(config, num_layers)
        self.norm = GlobalLayerNorm(config.num_filters, channels_last=True, eps=_EPS)

    def forward(self, sequences: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map sequences (M, T, C), of which ``lengths`` (M,) positions are valid, to the same shape."""
        mask = None if lengths is None else length_mask(lengths, sequences.shape[1])[..., None]
        normalised: Tensor = self.norm(self.transformer(sequences, lengths), mask)
        return sequences + normalised
