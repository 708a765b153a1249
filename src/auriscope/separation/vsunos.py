"""VSUNOS: dual-path recurrent blocks that multiply and concatenate, without masks, heard after every block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice, length_mask, run_recurrent
from auriscope.pretrained.model import Model
from auriscope.separation.layers import (
    ACTIVATIONS,
    ChannelLayerNorm,
    Chunking,
    Decoder,
    DualPathBlock,
    Encoder,
    GlobalLayerNorm,
    overlap_add,
    split_chunks,
)
from auriscope.separation.objectives import pit_objective
from auriscope.separation.spectral import rms_level
from auriscope.training.task import Batch


@dataclass(frozen=True)
class VSUNOSConfig:
    """The configuration of VSUNOS; the defaults are the paper's (section 4) for segments of 4 s at 8 kHz.

    ``kernel_size`` and ``stride`` are in samples, ``chunk_size`` and ``hop_size`` in frames; ``hop_size`` is the chunk
    or half of it. ``num_blocks`` counts pairs of blocks, one along the chunks and one across them, with a head after
    each pair. ``norm``, of what a block adds, is ``"none"``, ``"global"`` or ``"channel"``. ``normalize_mixture``
    separates the mixture at an RMS level of 1 and gives the estimates at the mixture's.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    num_filters: int = 128
    kernel_size: int = 8
    stride: int = 4
    hidden_size: int = 128
    chunk_size: int = 126
    hop_size: int = 63
    num_blocks: int = 6
    norm: str = "none"
    encoder_activation: str = "relu"
    normalize_mixture: bool = False

    def __post_init__(self) -> None:
        choice(self.norm, _NORMS, "norm")
        choice(self.encoder_activation, ACTIVATIONS, "encoder_activation")
        if self.hop_size < 1 or self.chunk_size not in (self.hop_size, 2 * self.hop_size):
            raise ValueError("hop_size must be chunk_size or half of it")
        if self.num_blocks < 1:
            raise ValueError("num_blocks must be at least 1")


class NoNorm(nn.Module):
    """A normalisation that leaves everything as it is."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Give ``x`` back."""
        return x


def _no_norm(num_channels: int, *, channels_last: bool) -> nn.Module:  # noqa: ARG001
    return NoNorm()


_NORMS = {"none": _no_norm, "global": GlobalLayerNorm, "channel": ChannelLayerNorm}


class MulCatPath(nn.Module):
    """Two recurrent networks whose projected outputs are multiplied, with the input beside them, projected back.

    Section 3.1 of the paper ("MULCAT"), with a projection in each branch as its authors' implementation has it.
    """

    slice_positions, fewest_sequences = 65536, 32

    def __init__(self, num_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            nn.LSTM(num_channels, hidden_size, bidirectional=True, batch_first=True) for _ in range(2)
        )
        self.branches = nn.ModuleList(nn.Linear(2 * hidden_size, num_channels) for _ in range(2))
        self.projection = nn.Linear(2 * num_channels, num_channels)

    def forward(self, sequences: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map sequences (M, T, C), of which ``lengths`` (M,) positions are valid, to the same shape."""
        signal, gate = (
            branch(run_recurrent(network, sequences, lengths))
            for network, branch in zip(self.networks, self.branches, strict=True)
        )
        return cast(Tensor, self.projection(torch.cat([signal * gate, sequences], dim=-1)))


class VSUNOS(Model, name="separation/vsunos"):
    """Voice separation with an unknown number of speakers: MULCAT blocks in dual path, a head after every pair of them.

    E. Nachmani, Y. Adi, L. Wolf, "Voice separation with an unknown number of multiple speakers", ICML 2020,
    arXiv 2003.01531; sections 3 and 4. For the unknown number see :mod:`auriscope.separation.selection`.

    Published: SI-SNRi 20.1 dB on WSJ0-2Mix and 16.9 dB on WSJ0-3Mix; 7.5 M parameters (7.56 M here, of which the
    blocks are 7.52 M). There are no masks: the head (PReLU, a 1 x 1 convolution to all sources, overlap-add of the
    chunks, decoder) makes the waveforms from the network's state. All pairs of blocks share one head; training hears
    every pair, each under its own best permutation, and the last one counts.

    What the paper leaves open: the decoder is a learned filterbank of the encoder's size, where the authors' code
    averages groups of filters; and the first weights of encoder, head and decoder are chosen such that each estimate is
    about the mixture, since a network without masks otherwise learns that first. The paper's speaker-identity loss,
    with a classifier trained for it, which is worth 0.1 to 0.2 dB there, is left out.
    """

    Config = VSUNOSConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 16,
        "kernel_size": 16,
        "stride": 8,
        "hidden_size": 12,
        "chunk_size": 10,
        "hop_size": 5,
        "num_blocks": 2,
        "normalize_mixture": True,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 20.1,
        "SDRi on WSJ0-2Mix (dB)": 20.4,
        "SI-SNRi on WSJ0-3Mix (dB)": 16.9,
        "parameters (million)": 7.5,
    }
    num_stages: ClassVar[int] = 1

    def __init__(self, config: VSUNOSConfig) -> None:
        super().__init__(config)
        filters = (config.num_filters, config.kernel_size, config.stride)
        norm = _NORMS[config.norm]
        # Chunks that overlap by half are cut as the authors do; either way each frame lies in as many as any other.
        self.chunking = Chunking(
            config.chunk_size, config.hop_size, config.hop_size, in_pairs=config.hop_size < config.chunk_size
        )
        self.encoder = Encoder(*filters, activation=config.encoder_activation)
        self.blocks = nn.ModuleList(
            DualPathBlock(
                MulCatPath(config.num_filters, config.hidden_size),
                MulCatPath(config.num_filters, config.hidden_size),
                norm(config.num_filters, channels_last=True),
                norm(config.num_filters, channels_last=True),
            )
            for _ in range(config.num_blocks)
        )
        self.prelu = nn.PReLU()
        self.to_sources = nn.Linear(config.num_filters, config.num_sources * config.num_filters)
        self.decoder = Decoder(*filters)
        self._begin_with_the_mixture()

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (B, time) in [-1, 1] into estimates (B, S, time).

        ``lengths`` (B,) are the valid samples of each example: what lies after them is taken as silence, leaves the
        valid samples as they are, and comes out as zeros. Without ``lengths``, all samples are valid.
        """
        return self._estimates(mixture, lengths, every_block=False)[0]

    def estimates_of_blocks(self, mixture: Tensor) -> Tensor:
        """What the head makes of the state after every pair of blocks: mixture (B, time) to (blocks, B, S, time)."""
        return torch.stack(self._estimates(mixture, None, every_block=True))

    def losses(self, batch: Batch, stage: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The PIT SI-SNR loss, mean over the pairs of blocks (section 3.2), and the last one's improvement in dB."""
        mixture, sources = batch["mixture"], batch["sources"]
        values = [pit_objective(one, sources, mixture) for one in self.estimates_of_blocks(mixture)]
        loss = torch.stack([value["loss"] for value in values]).mean()
        return {"loss": loss, "si_snri_db": values[-1]["si_snri_db"]}

    def _estimates(self, mixture: Tensor, lengths: Tensor | None, *, every_block: bool) -> list[Tensor]:
        num_samples, frame_lengths, num_chunks = mixture.shape[-1], None, None
        if lengths is not None:
            valid = length_mask(lengths, num_samples)
            mixture = mixture.masked_fill(~valid, 0)
            frame_lengths = self.encoder.num_frames(lengths)
            num_chunks = self.chunking.num_chunks(frame_lengths)
        level = rms_level(mixture, lengths) if self.config.normalize_mixture else mixture.new_ones(len(mixture), 1)
        features = self.encoder(mixture / level).transpose(1, 2)
        mask = None
        if frame_lengths is not None:
            mask = length_mask(frame_lengths, features.shape[1])[..., None]
            features = features * mask
        chunks = split_chunks(features, self.chunking)
        outputs = []
        for number, block in enumerate(self.blocks, start=1):
            chunks = block(chunks, num_chunks)
            if every_block or number == len(self.blocks):
                estimates = self._head(chunks, features.shape[1], num_samples, mask)
                estimates = (estimates * level[:, None]).to(mixture.dtype)
                outputs.append(estimates if lengths is None else estimates * valid[:, None])
        return outputs

    def _head(self, chunks: Tensor, num_frames: int, num_samples: int, mask: Tensor | None) -> Tensor:
        # The projection is linear, so it may as well follow the overlap-add; every frame lies in as many chunks.
        hop = self.chunking.hop
        x = overlap_add(self.prelu(chunks), hop, padding=self.chunking.padding, num_frames=num_frames)
        x = F.linear(x, self.to_sources.weight) + self.chunking.size // hop * self.to_sources.bias
        if mask is not None:
            x = x * mask
        x = x.view(*x.shape[:2], self.config.num_sources, -1).transpose(1, 2)
        estimates: Tensor = self.decoder(x, num_samples)
        return estimates

    def _begin_with_the_mixture(self) -> None:
        """Cosines in a sine window as filters, and a head that hands their outputs to every source."""
        config = self.config
        # A rectified filter hears half the signal: its negative hears the rest.
        rectified = config.encoder_activation == "relu"
        half = max(1, config.num_filters // 2) if rectified else config.num_filters
        position = torch.arange(config.kernel_size) + 0.5
        band = (torch.arange(half) % config.kernel_size + 0.5) * max(1.0, config.kernel_size / half)
        window = torch.sin(math.pi / config.kernel_size * position)
        filters = (
            math.sqrt(2 / config.kernel_size)
            * window
            * torch.cos(math.pi / config.kernel_size * band[:, None] * position)
        )
        with torch.no_grad():
            for weight in (self.encoder.weight, self.decoder.weight):
                nn.init.normal_(weight, std=0.02)
                weight[:half, 0] += filters
                if rectified:
                    weight[half : 2 * half, 0] -= filters
            nn.init.ones_(self.prelu.weight)
            nn.init.normal_(self.to_sources.weight, std=0.02)
            nn.init.zeros_(self.to_sources.bias)
            identity = self.to_sources.weight.view(config.num_sources, config.num_filters, config.num_filters)
            identity += torch.eye(config.num_filters)
