"""Separate a signal while it arrives, block by block, with a causal model: what comes out equals the offline pass.

Two systems of the room can be made causal: Conv-TasNet with ``causal=True``, and DPRNN with ``bidirectional=False`` and
``norm="channel"``, whose networks across chunks look back only (its networks within a chunk see the chunk, which is
its delay). Nothing is computed twice: convolutions keep the frames they look back on, recurrent networks
their states, cumulative norms their sums, and the decoder the samples that later frames still add to.

Y. Luo, N. Mesgarani, Conv-TasNet, arXiv 1809.07454, section II.D (the causal configuration); Y. Luo, Z. Chen,
T. Yoshioka, DPRNN, arXiv 1910.06379, section 2.1.2 (online, by a unidirectional network across the chunks).
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.pretrained.model import Model
from auriscope.separation.convtasnet import ConvTasNet, TemporalConvBlock, TemporalConvMasker
from auriscope.separation.dprnn import DPRNN, RecurrentPath
from auriscope.separation.layers import (
    ChannelLayerNorm,
    CumulativeLayerNorm,
    DualPathBlock,
    DualPathMasker,
    MaskingModel,
)


class _Masker(Protocol):
    """Masks for features that arrive little by little; ``delay_frames`` frames are held back at most."""

    delay_frames: int

    def step(self, features: Tensor) -> Tensor:
        """The next features (B, f, N) to the masks (B, S, g, N) of the next g frames, g between 0 and what is due."""

    def finish(self) -> Tensor:
        """The masks of the frames that are still due."""


class StreamingSeparator:
    """A causal separator that takes blocks of any length and gives what it can; all of it equals the offline pass.

    ``latency_samples`` is how many samples after its own a sample of the estimates is known: the rest of a filter and,
    for DPRNN, a chunk. The model must be in evaluation mode. A new signal takes a new object.

    Args:
        model: a causal ``separation/convtasnet`` or ``separation/dprnn``.
        batch_size: signals that arrive side by side.

    Raises:
        AuriscopeError: the model is not causal, or is of a system that cannot be streamed.
    """

    def __init__(self, model: Model, batch_size: int = 1) -> None:
        self._masker = _masker(model, batch_size)
        self.model = cast(MaskingModel, model)
        encoder = self.model.encoder
        self._kernel_size, self._stride = encoder.kernel_size, encoder.stride
        device = model.device
        self._samples = torch.zeros(batch_size, 0, device=device)
        self._features = torch.zeros(batch_size, 0, encoder.weight.shape[0], device=device)
        num_sources = model.config.num_sources
        self._overlap = torch.zeros(batch_size, num_sources, max(0, self._kernel_size - self._stride), device=device)
        self._num_samples = self._num_given = 0
        self._finished = False

    @property
    def latency_samples(self) -> int:
        """Samples between one that goes in and the same one of the estimates, at the model's rate."""
        return self._masker.delay_frames * self._stride + self._kernel_size - 1

    @torch.no_grad()
    def push(self, block: Tensor) -> Tensor:
        """Take the next samples (B, time), and give the next samples (B, S, time') of the estimates; time' may be 0."""
        if self._finished:
            raise AuriscopeError("this stream is finished; begin another one for the next signal")
        self._num_samples += block.shape[-1]
        self._samples = torch.cat([self._samples, block], dim=-1)
        num_frames = (self._samples.shape[-1] - self._kernel_size) // self._stride + 1
        if num_frames < 1:
            return self._overlap[..., :0]
        return self._give(self._masks_of(num_frames))

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Give the samples that are still due: then as many have come out as went in."""
        parts = []
        if self._num_samples and self._num_samples < self._kernel_size:
            # A signal shorter than one filter is padded to one frame, as offline.
            self._samples = F.pad(self._samples, (0, self._kernel_size - self._num_samples))
            parts.append(self._give(self._masks_of(1)))
        parts.append(self._give(self._masker.finish()))
        self._finished = True
        missing = self._num_samples - self._num_given
        kept = self._overlap[..., : max(0, missing)]
        joined = torch.cat([*parts, F.pad(kept, (0, max(0, missing) - kept.shape[-1]))], dim=-1)
        # A signal shorter than a stride is shorter than what its only frame gives.
        return joined[..., : joined.shape[-1] + min(0, missing)]

    def _masks_of(self, num_frames: int) -> Tensor:
        """Analyse the next frames and give the masks that are due."""
        used = (num_frames - 1) * self._stride + self._kernel_size
        features = self.model.encoder(self._samples[:, :used]).transpose(1, 2)
        self._samples = self._samples[:, num_frames * self._stride :]
        self._features = torch.cat([self._features, features], dim=1)
        return self._masker.step(features)

    def _give(self, masks: Tensor) -> Tensor:
        """Mask the frames whose masks came, synthesise them, and give the samples that nothing more is added to."""
        num_frames = masks.shape[2]
        if num_frames == 0:
            return self._overlap[..., :0]
        masked = masks * self._features[:, None, :num_frames]
        self._features = self._features[:, num_frames:]
        length = (num_frames - 1) * self._stride + self._kernel_size
        frames: Tensor = self.model.decoder(masked, max(length, num_frames * self._stride))
        kept = self._overlap.shape[-1]
        frames[..., :kept] += self._overlap
        done = num_frames * self._stride
        self._overlap = frames[..., done : done + kept].clone()
        self._num_given += done
        return frames[..., :done]


def _masker(model: Model, batch_size: int) -> _Masker:
    if model.training:
        raise AuriscopeError("streaming takes a model in evaluation mode; call model.eval() first")
    if isinstance(model, ConvTasNet) and model.config.causal:
        return _TemporalConvStream(cast(TemporalConvMasker, model.masker), batch_size)
    config = model.config
    if isinstance(model, DPRNN) and not config.bidirectional and config.norm == "channel":
        return _DualPathStream(cast(DualPathMasker, model.masker), batch_size)
    if isinstance(model, ConvTasNet | DPRNN):
        cure = "causal=True" if isinstance(model, ConvTasNet) else "bidirectional=False and norm='channel'"
        raise AuriscopeError(f"this {model.name} sees the future and cannot be streamed; train one with {cure}")
    raise AuriscopeError(
        f"{model.name} cannot be streamed; causal models of separation/convtasnet and separation/dprnn can"
    )


class _NormStream:
    """A causal norm over frames that arrive little by little; inputs (B, C, F)."""

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm
        self.total: Tensor | float = 0.0
        self.power: Tensor | float = 0.0
        self.count = 0

    def __call__(self, x: Tensor) -> Tensor:
        if not isinstance(self.norm, CumulativeLayerNorm):
            return cast(Tensor, cast(ChannelLayerNorm, self.norm)(x))
        steps = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        count = x.shape[1] * (self.count + steps)
        total = self.total + x.sum(1, keepdim=True).cumsum(-1)
        power = self.power + x.square().sum(1, keepdim=True).cumsum(-1)
        self.total, self.power, self.count = total[..., -1:], power[..., -1:], self.count + x.shape[-1]
        mean = total / count
        variance = (power / count - mean.square()).clamp(min=0)
        scale = torch.rsqrt(variance + self.norm.eps)
        return self.norm.weight[:, None] * ((x - mean) * scale) + self.norm.bias[:, None]


class _BlockStream:
    """A block of the temporal convolutional network with the frames it looks back on."""

    def __init__(self, block: TemporalConvBlock, batch_size: int) -> None:
        self.block = block
        self.norm1, self.norm2 = _NormStream(block.norm1), _NormStream(block.norm2)
        channels, padding = block.depthwise.out_channels, cast(int, block.depthwise.padding[0])
        self.past = torch.zeros(batch_size, channels, padding, device=block.depthwise.weight.device)

    def __call__(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        block, convolution = self.block, self.block.depthwise
        num_frames = x.shape[-1]
        x = torch.cat([self.past, self.norm1(block.prelu1(block.expand(x)))], dim=-1)
        self.past = x[..., num_frames:]
        x = F.conv1d(x, convolution.weight, convolution.bias, dilation=convolution.dilation, groups=convolution.groups)[
            ..., :num_frames
        ]
        x = self.norm2(block.prelu2(x))
        return (
            None if block.residual is None else block.residual(x),
            None if block.skip is None else block.skip(x),
        )


class _TemporalConvStream:
    """Conv-TasNet's masker, frame by frame."""

    delay_frames = 0

    def __init__(self, masker: TemporalConvMasker, batch_size: int) -> None:
        self.masker, self.batch_size = masker, batch_size
        self.norm = _NormStream(masker.norm)
        self.blocks = [_BlockStream(cast(TemporalConvBlock, block), batch_size) for block in masker.blocks]

    def step(self, features: Tensor) -> Tensor:
        masker = self.masker
        x: Tensor | None = masker.bottleneck(self.norm(features.transpose(1, 2)))
        skips: Tensor | None = None
        for block in self.blocks:
            residual, skip = block(cast(Tensor, x))
            x = None if residual is None else cast(Tensor, x) + residual
            skips = skip if skips is None else skips + cast(Tensor, skip)
        return masker.masks(cast(Tensor, x if skips is None else skips))

    def finish(self) -> Tensor:
        """Nothing is ever held back."""
        num_filters = self.masker.to_masks.out_channels // self.masker.num_sources
        return self.masker.to_masks.weight.new_zeros(self.batch_size, self.masker.num_sources, 0, num_filters)


class _DualPathStream:
    """DPRNN's masker, chunk by chunk: a chunk is processed once its last frame is there."""

    def __init__(self, masker: DualPathMasker, batch_size: int) -> None:
        self.masker, self.chunking = masker, masker.chunking
        self.delay_frames = masker.chunking.size
        channels = masker.bottleneck.out_features
        # What of the frames a chunk may still need: at first, the zeros before the first frame.
        self.frames = masker.bottleneck.weight.new_zeros(batch_size, masker.chunking.padding, channels)
        self.sums = self.frames.new_zeros(batch_size, masker.chunking.size, channels)
        self.counts = self.frames.new_zeros(1, masker.chunking.size, 1)
        self.states: list[list[tuple[Tensor, ...] | Tensor | None]] = [
            [None] * len(cast(RecurrentPath, cast(DualPathBlock, block).inter).networks) for block in masker.blocks
        ]
        self.num_frames = self.num_chunks = self.num_given = 0

    def step(self, features: Tensor) -> Tensor:
        self.num_frames += features.shape[1]
        self.frames = torch.cat([self.frames, self.masker.bottleneck(self.masker.norm(features))], dim=1)
        return self._process((self.frames.shape[1] - self.chunking.size) // self.chunking.hop + 1)

    def finish(self) -> Tensor:
        """Continue with the zeros after the last frame, for as many chunks as there are offline."""
        if not self.num_frames:
            return self._masks(self.frames[:, :0], self.counts[:, :0])
        missing = self.chunking.num_chunks(self.num_frames) - self.num_chunks
        span = (missing - 1) * self.chunking.hop + self.chunking.size
        self.frames = F.pad(self.frames, (0, 0, 0, max(0, span - self.frames.shape[1])))
        return self._process(missing)

    def _process(self, num_chunks: int) -> Tensor:
        """Run the next chunks, one after the other, and give the masks of the frames that no later one reaches."""
        size, hop = self.chunking.size, self.chunking.hop
        sums, counts = [self.sums[:, :0]], [self.counts[:, :0]]
        for _ in range(num_chunks):
            chunk = self.masker.prelu(self._through_blocks(self.frames[:, :size]))
            self.frames = self.frames[:, hop:]
            self.sums, self.counts = self.sums + chunk, self.counts + 1
            # The frames before the signal's first are nobody's.
            before = max(0, min(hop, self.chunking.padding - self.num_chunks * hop))
            sums.append(self.sums[:, before:hop])
            counts.append(self.counts[:, before:hop])
            self.sums = F.pad(self.sums[:, hop:], (0, 0, 0, hop))
            self.counts = F.pad(self.counts[:, hop:], (0, 0, 0, hop))
            self.num_chunks += 1
        return self._masks(torch.cat(sums, dim=1), torch.cat(counts, dim=1))

    def _through_blocks(self, chunk: Tensor) -> Tensor:
        """One chunk (B, K, C) through all blocks; across chunks, every position has recurrent states of its own."""
        for block, states in zip(self.masker.blocks, self.states, strict=True):
            block = cast(DualPathBlock, block)
            chunk = chunk + block.intra_norm(block.intra(chunk))
            path = cast(RecurrentPath, block.inter)
            step = chunk.flatten(0, 1)[None]
            outputs = []
            for index, network in enumerate(path.networks):
                output, states[index] = network(step, states[index])
                outputs.append(output)
            across = path.project(outputs, step).view(chunk.shape)
            chunk = chunk + block.inter_norm(across)
        return chunk

    def _masks(self, sums: Tensor, counts: Tensor) -> Tensor:
        # The last chunks reach beyond the last frame.
        due = min(sums.shape[1], self.num_frames - self.num_given)
        self.num_given += due
        if not due:
            num_filters = self.masker.to_mask.out_features
            return sums.new_zeros(sums.shape[0], self.masker.num_sources, 0, num_filters)
        return self.masker.masks(sums[:, :due], counts[:, :due])
