"""What the separators share: the learned filterbank, masked normalisations, chunking, and the dual-path masker.

Shapes use B batch, S sources, N filters, C channels, F frames, L chunks and K positions in a chunk. Everything here
gives, for ``lengths=None``, what the original implementations give; with lengths, statistics and sequences leave out
the padding, so that a padded example comes out as it does alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice, length_mask
from auriscope.pretrained.model import Model

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class Encoder(nn.Module):
    """A learned analysis filterbank: mixture (B, time) to features (B, N, F), a strided convolution without bias.

    Frame t starts at sample ``t * stride``; samples after the last whole frame belong to no frame. A mixture shorter
    than one filter is padded with zeros to one frame.
    """

    def __init__(self, num_filters: int, kernel_size: int, stride: int, activation: str = "linear") -> None:
        super().__init__()
        choice(activation, ACTIVATIONS, "encoder_activation")
        self.kernel_size, self.stride, self.activation = kernel_size, stride, activation
        self.weight = nn.Parameter(torch.empty(num_filters, 1, kernel_size))
        nn.init.xavier_normal_(self.weight)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Frames (B,) that recordings of ``lengths`` (B,) samples have on their own."""
        return (lengths - self.kernel_size).clamp(min=0) // self.stride + 1

    def forward(self, mixture: Tensor) -> Tensor:
        """Analyse a mixture (B, time) into features (B, N, F)."""
        missing = self.kernel_size - mixture.shape[-1]
        if missing > 0:
            mixture = F.pad(mixture, (0, missing))
        return ACTIVATIONS[self.activation](F.conv1d(mixture[:, None], self.weight, stride=self.stride))


class Decoder(nn.Module):
    """A learned synthesis filterbank: features (B, S, F, N) to waveforms (B, S, time), a transposed convolution.

    The waveforms are cut, or continued with zeros, to ``num_samples``. Where ``mirrored`` is set, the filters are half
    as many: the features' other half belongs to the same filters with the other sign.
    """

    def __init__(self, num_filters: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.stride, self.mirrored = stride, False
        self.weight = nn.Parameter(torch.empty(num_filters, 1, kernel_size))
        nn.init.xavier_normal_(self.weight)

    def forward(self, features: Tensor, num_samples: int) -> Tensor:
        """Synthesise features (B, S, F, N) into ``num_samples`` samples (B, S, num_samples)."""
        # A product with the filters, then overlap-add: the same sums as a transposed convolution, several times
        # faster on a CPU when there is one output channel.
        if self.mirrored:
            positive, negative = features.chunk(2, dim=-1)
            features = positive - negative
        frames = features @ self.weight[:, 0]
        batch, sources, num_frames, kernel_size = frames.shape
        waveform = overlap_add(
            frames.reshape(batch * sources, num_frames, kernel_size, 1),
            self.stride,
            padding=0,
            num_frames=min(num_samples, (num_frames - 1) * self.stride + kernel_size),
        )
        waveform = waveform.view(batch, sources, -1)
        return F.pad(waveform, (0, num_samples - waveform.shape[-1]))


class GlobalLayerNorm(nn.Module):
    """Normalise each example over all its channels and positions, then scale and shift each channel (gLN).

    The same as a group normalisation with one group. Conv-TasNet, arXiv 1809.07454, equations 10 and 11.

    ``channels_last`` tells whether inputs are (B, …, C) or (B, C, …). With a ``mask`` (bool or number, broadcastable
    to the input with one channel), only marked positions count.
    """

    def __init__(self, num_channels: int, *, channels_last: bool = False, eps: float = 1e-8) -> None:
        super().__init__()
        self.channels_last, self.eps = channels_last, eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def scale_and_shift(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The factor and the term that normalise ``x``, each broadcastable to it."""
        dims = tuple(range(1, x.ndim))
        x = x.float()
        if mask is None:
            # torch.var_mean takes ten times as long on a CPU. Adding up a dimension at a time keeps the rounding small.
            size = x[0].numel()
            mean = x.sum(dims, keepdim=True) / size
            power = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square().sum(dims, keepdim=True) / size
            variance = (power - mean.square()).clamp(min=0)
        else:
            weights = mask.to(x.dtype)
            count = weights.sum(dims, keepdim=True) * (x[0].numel() / mask[0].numel())
            mean = (x * weights).sum(dims, keepdim=True) / count
            variance = ((x - mean).square() * weights).sum(dims, keepdim=True) / count
        shape = (-1,) if self.channels_last else (-1, *(1,) * (x.ndim - 2))
        scale = self.weight.view(shape) * torch.rsqrt(variance + self.eps)
        return scale, self.bias.view(shape) - mean * scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise ``x``; the shape stays."""
        if mask is not None:
            scale, shift = self.scale_and_shift(x, mask)
            return torch.addcmul(shift, x, scale)
        x = x.float()
        if not self.channels_last:
            return F.group_norm(x, 1, self.weight, self.bias, self.eps)
        # An image whose channels come last is normalised as it lies in memory.
        image = x.movedim(-1, 1) if x.ndim == 4 else x.movedim(-1, 1)[:, :, None]
        image = F.group_norm(image, 1, self.weight, self.bias, self.eps)
        return (image if x.ndim == 4 else image[:, :, 0]).movedim(1, -1)


class ChannelLayerNorm(nn.Module):
    """Normalise every position over its channels alone (cLN): causal, and indifferent to padding."""

    def __init__(self, num_channels: int, *, channels_last: bool = False, eps: float = 1e-8) -> None:
        super().__init__()
        self.channels_last, self.eps = channels_last, eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Normalise ``x``; the shape stays."""
        if not self.channels_last:
            x = x.transpose(1, -1)
        x = F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return x if self.channels_last else x.transpose(1, -1)


class CumulativeLayerNorm(nn.Module):
    """Normalise every frame over the channels of all frames up to it (cumulative gLN): causal.

    Takes (B, C, F) only. Conv-TasNet, arXiv 1809.07454, equations 8 and 9.
    """

    def __init__(self, num_channels: int, *, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Normalise ``x`` (B, C, F); the shape stays."""
        x = x.float()
        count = x.shape[1] * torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        mean = x.sum(1, keepdim=True).cumsum(-1) / count
        power = x.square().sum(1, keepdim=True).cumsum(-1) / count
        # Rounding can leave the variance of a constant signal a little below zero.
        variance = (power - mean.square()).clamp(min=0)
        return self.weight[:, None] * ((x - mean) * torch.rsqrt(variance + self.eps)) + self.bias[:, None]


@dataclass(frozen=True)
class Chunking:
    """How a sequence of frames is cut into overlapping chunks, as DPRNN (arXiv 1910.06379, section 2.1.1) does.

    The sequence starts ``padding`` positions into the first chunk, and as many chunks follow as are needed to cover
    every frame as often as any other. ``in_pairs`` cuts as SepFormer's implementation does (always an even number
    of chunks); otherwise as Asteroid's DPRNN. Without ``padding``, chunks lie side by side, and the last is filled up.
    """

    size: int
    hop: int
    padding: int
    in_pairs: bool = False

    @overload
    def num_chunks(self, num_frames: int) -> int: ...
    @overload
    def num_chunks(self, num_frames: Tensor) -> Tensor: ...
    def num_chunks(self, num_frames: int | Tensor) -> int | Tensor:
        """How many chunks ``num_frames`` frames give."""
        if self.in_pairs:
            return 2 * ((num_frames + self.padding) // self.size + 1)
        if self.padding == 0:
            return (num_frames - 1) // self.hop + 1
        return (num_frames + 2 * self.padding - self.size) // self.hop + 1


def split_chunks(x: Tensor, chunking: Chunking) -> Tensor:
    """Cut frames (B, F, C) into chunks (B, L, K, C), a new tensor; positions outside the frames are zeros."""
    num_frames = x.shape[1]
    span = (chunking.num_chunks(num_frames) - 1) * chunking.hop + chunking.size
    x = F.pad(x, (0, 0, chunking.padding, max(0, span - chunking.padding - num_frames)))
    return x.unfold(1, chunking.size, chunking.hop).transpose(2, 3).contiguous()


def overlap_add(chunks: Tensor, hop: int, *, padding: int, num_frames: int) -> Tensor:
    """Add overlapping chunks (B, L, K, C) back to frames (B, num_frames, C): sums, no division.

    Chunk l starts at frame ``l * hop - padding``. The inverse of :func:`split_chunks` up to the number of chunks
    that cover a frame.
    """
    batch, num_chunks, size, channels = chunks.shape
    overlap = -(-size // hop)
    if size != overlap * hop:
        chunks = F.pad(chunks, (0, 0, 0, overlap * hop - size))
    # A chunk is `overlap` hops long: its j-th hop lands on the j-th grid cell after the chunk's own.
    hops = chunks.reshape(batch, num_chunks, overlap, hop, channels)
    total = chunks.new_zeros(batch, num_chunks + overlap - 1, hop, channels)
    for index in range(overlap):
        total[:, index : index + num_chunks] += hops[:, :, index]
    return total.flatten(1, 2)[:, padding : padding + num_frames]


class DualPathBlock(nn.Module):
    """One dual-path step: x + norm(intra(x)) along every chunk, then the same across the chunks (inter).

    ``intra`` and ``inter`` map sequences (M, T, C), with optional lengths (M,), to the same shape, must leave their
    input alone, and state in ``slice_positions`` how many positions (M times T) they handle well at once: without
    gradients the sequences go through in slices of that size, which bounds the memory. A path that needs many sequences
    at once to be quick states them in ``fewest_sequences``.
    """

    def __init__(self, intra: nn.Module, inter: nn.Module, intra_norm: nn.Module, inter_norm: nn.Module) -> None:
        super().__init__()
        self.intra, self.inter, self.intra_norm, self.inter_norm = intra, inter, intra_norm, inter_norm

    def forward(self, chunks: Tensor, num_chunks: Tensor | None = None) -> Tensor:
        """Process chunks (B, L, K, C) of which ``num_chunks`` (B,) are valid; without gradients, in place."""
        mask = None if num_chunks is None else length_mask(num_chunks, chunks.shape[1])[:, :, None, None]
        along = run_in_slices(self.intra, chunks, None)
        chunks = _add_normalised(chunks, along, self.intra_norm, mask)
        del along
        across = run_in_slices(self.inter, chunks.transpose(1, 2), num_chunks).transpose(1, 2)
        return _add_normalised(chunks, across, self.inter_norm, mask)


def run_in_slices(path: nn.Module, sequences: Tensor, lengths: Tensor | None) -> Tensor:
    """Run ``path`` over sequences (B, M, T, C), any strides; ``lengths`` (B,) hold for all sequences of an example."""
    batch, num_sequences, num_positions, channels = sequences.shape

    def run(part: Tensor) -> Tensor:
        part_lengths = None if lengths is None else lengths.repeat_interleave(part.shape[1])
        return cast(Tensor, path(part.reshape(-1, num_positions, channels), part_lengths)).view(part.shape)

    # A recurrent network that goes through few long sequences at once wastes most of its time.
    fewest = cast(int, getattr(path, "fewest_sequences", 1))
    step = max(fewest, cast(int, path.slice_positions) // (batch * num_positions))
    if torch.is_grad_enabled() or step >= num_sequences:
        return run(sequences)
    output = torch.empty_like(sequences)
    for start in range(0, num_sequences, step):
        output[:, start : start + step] = run(sequences[:, start : start + step])
    return output


def _add_normalised(chunks: Tensor, update: Tensor, norm: nn.Module, mask: Tensor | None) -> Tensor:
    if torch.is_grad_enabled():
        return chunks + cast(Tensor, norm(update, mask))
    if isinstance(norm, GlobalLayerNorm):
        scale, shift = norm.scale_and_shift(update, mask)
        return chunks.addcmul_(update.to(chunks.dtype), scale).add_(shift)
    return chunks.add_(cast(Tensor, norm(update, mask)))


class DualPathMasker(nn.Module):
    """From features to one mask per source by dual-path blocks over chunks: what DPRNN and SepFormer have in common.

    Normalise, project to C channels, cut into chunks, run the blocks, project to C channels per source, add the
    chunks up, gate (tanh times sigmoid), project to the N filters, activate.
    """

    def __init__(
        self,
        blocks: Iterable[DualPathBlock],
        chunking: Chunking,
        norm: nn.Module,
        *,
        num_filters: int,
        num_channels: int,
        num_sources: int,
        bottleneck_bias: bool,
        mask_activation: str,
    ) -> None:
        super().__init__()
        choice(mask_activation, ACTIVATIONS, "mask_activation")
        self.chunking, self.num_sources, self.mask_activation = chunking, num_sources, mask_activation
        self.norm = norm
        self.bottleneck = nn.Linear(num_filters, num_channels, bias=bottleneck_bias)
        self.blocks = nn.ModuleList(blocks)
        self.prelu = nn.PReLU()
        self.to_sources = nn.Linear(num_channels, num_sources * num_channels)
        self.output = nn.Linear(num_channels, num_channels)
        self.gate = nn.Linear(num_channels, num_channels)
        self.to_mask = nn.Linear(num_channels, num_filters, bias=False)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Features (B, F, N) to masks (B, S, F, N); ``frame_lengths`` (B,) are the valid frames."""
        num_frames = features.shape[1]
        mask = None if frame_lengths is None else length_mask(frame_lengths, num_frames)[..., None]
        x = self.bottleneck(self.norm(features, mask))
        if mask is not None:
            x = x * mask
        chunks = split_chunks(x, self.chunking)
        num_chunks = None if frame_lengths is None else self.chunking.num_chunks(frame_lengths)
        for block in self.blocks:
            chunks = block(chunks, num_chunks)
        # The projection to the sources is linear, so it may as well follow the overlap-add, at half the work: only
        # its bias must then be added as often as there are chunks over a frame. Surplus chunks of a padded example
        # begin after its last frame.
        x = self._overlap_add(self.prelu(chunks), num_frames)
        count = self._overlap_add(chunks.new_ones(1, chunks.shape[1], chunks.shape[2], 1), num_frames)
        del chunks
        return self.masks(x, count)

    def masks(self, x: Tensor, count: Tensor) -> Tensor:
        """Overlap-added frames (B, F, C), over each of which lay ``count`` (1, F, 1) chunks, to masks (B, S, F, N)."""
        x = F.linear(x, self.to_sources.weight) + count * self.to_sources.bias
        x = x.view(*x.shape[:2], self.num_sources, -1).transpose(1, 2)
        x = torch.tanh(self.output(x)) * torch.sigmoid(self.gate(x))
        return ACTIVATIONS[self.mask_activation](self.to_mask(x))

    def _overlap_add(self, chunks: Tensor, num_frames: int) -> Tensor:
        return overlap_add(chunks, self.chunking.hop, padding=self.chunking.padding, num_frames=num_frames)


class MaskingModel(Model):
    """A separator that masks learned features: encoder, masker, decoder.

    ``masker`` maps features (B, F, N) and optional frame lengths (B,) to masks (B, S, F, N).
    """

    def __init__(self, config: Any, encoder: Encoder, masker: nn.Module, decoder: Decoder) -> None:
        super().__init__(config)
        self.encoder, self.masker, self.decoder = encoder, masker, decoder

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (B, time) in [-1, 1] into estimates (B, S, time).

        ``lengths`` (B,) are the valid samples of each example: what lies after them is taken as silence, leaves the
        valid samples as they are, and comes out as zeros. Without ``lengths``, all samples are valid.
        """
        num_samples = mixture.shape[-1]
        frame_lengths = None
        if lengths is not None:
            valid = length_mask(lengths, num_samples)
            mixture = mixture.masked_fill(~valid, 0)
            frame_lengths = self.encoder.num_frames(lengths)
        features = self.encoder(mixture).transpose(1, 2)
        masked = self.masker(features, frame_lengths) * features[:, None]
        if frame_lengths is not None:
            masked = masked * length_mask(frame_lengths, masked.shape[2])[:, None, :, None]
        estimates: Tensor = self.decoder(masked, num_samples).to(mixture.dtype)
        return estimates if lengths is None else estimates * valid[:, None]
