"""Wavesplit: who talks, heard in every frame and gathered by clustering, steers a stack that separates the talkers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import RecipeError
from auriscope.metrics.pit import pairwise, pit_pairwise
from auriscope.metrics.ratios import is_silent, snr
from auriscope.nn.masks import choice, length_mask
from auriscope.pretrained.model import Model
from auriscope.separation.filters import begin_harmonic, check_initial_filters
from auriscope.separation.kmeans import kmeans
from auriscope.separation.layers import ChannelLayerNorm, Decoder, Encoder
from auriscope.separation.objectives import clip_db, pit_objective
from auriscope.separation.spectral import rms_level
from auriscope.training.task import Batch


@dataclass(frozen=True)
class WavesplitConfig:
    """The configuration of Wavesplit; the defaults are the paper's (section IV), widths apart (see :class:`Wavesplit`).

    ``num_speakers`` is the size of the table of training speakers: their numbers in the batches lie below it.
    ``kernel_size`` and ``stride``, in samples, are those of the first convolution of either stack. ``output`` is
    ``"waveform"``, the paper's: the last convolution gives samples; or ``"mask"``: it masks the separation stack's
    first features, for frames of more than a sample. ``initial_filters`` of such frames are ``"random"`` or
    ``"harmonic"`` (see :mod:`auriscope.separation.filters`). The speaker stack's dilation doubles from layer to layer,
    the separation stack's in each of its ``num_blocks`` blocks of ``num_block_layers`` layers. ``heads`` says where an
    output follows, with weights of its own: after every ``"block"``, or every ``"layer"``, as its authors have it. The
    last one is what comes out, and the loss is the mean over all.

    Training alone: rows of the table begin ``"random"`` or ``"one-hot"`` (``initial_table``). ``order`` of the
    estimates in the loss is that of the ``"speakers"``, as in the paper, or the ``"best"``: as long as the speaker
    vectors tell little of unseen talkers, which takes far more than some hours of mixtures to change, a stack that must
    follow their order learns to give the mixture. ``speaker_loss`` is ``"classification"`` (among all speakers of the
    table) or ``"distance"``, of weight ``speaker_weight`` in dB of SDR; ``entropy_weight`` is of the term that spreads
    the table. Speaker vectors that the separation stack gets have noise of ``speaker_noise``, are dropped with
    ``speaker_dropout`` and mixed with another speaker's with ``speaker_mixup``.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    num_speakers: int = 101
    num_channels: int = 320
    speaker_size: int = 256
    kernel_size: int = 4
    stride: int = 1
    layer_kernel_size: int = 3
    num_speaker_layers: int = 14
    num_blocks: int = 4
    num_block_layers: int = 10
    output: str = "waveform"
    heads: str = "block"
    initial_filters: str = "random"
    num_iterations: int = 20
    max_sdr_db: float = 30.0
    initial_table: str = "random"
    order: str = "speakers"
    speaker_loss: str = "classification"
    speaker_weight: float = 1.0
    entropy_weight: float = 0.3
    speaker_noise: float = 0.2
    speaker_dropout: float = 0.4
    speaker_mixup: float = 0.5

    def __post_init__(self) -> None:
        choice(self.output, ("waveform", "mask"), "output")
        if self.output == "waveform" and self.stride > 1:
            raise ValueError("the output 'waveform' needs a stride of 1")
        check_initial_filters(self.initial_filters, self.num_channels, self.kernel_size, self.stride)
        choice(self.heads, ("block", "layer"), "heads")
        choice(self.initial_table, ("random", "one-hot"), "initial_table")
        if self.initial_table == "one-hot" and self.num_speakers > self.speaker_size:
            raise ValueError("a one-hot initial_table needs a speaker_size of num_speakers or more")
        choice(self.order, ("speakers", "best"), "order")
        choice(self.speaker_loss, ("classification", "distance"), "speaker_loss")
        if self.layer_kernel_size % 2 == 0:
            raise ValueError("layer_kernel_size must be odd")
        if self.num_speakers < self.num_sources:
            raise ValueError("num_speakers must be at least num_sources")
        for name in ("speaker_dropout", "speaker_mixup"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1)")


class Layer(nn.Module):
    """A residual layer: dilated convolution, PReLU, layer norm, and, with a condition, a scale and a shift by it.

    The scale and shift (FiLM: E. Perez et al., arXiv 1709.07871) are linear in the talkers' vectors, side by side.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, condition_size: int = 0) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, channels, kernel_size, padding="same", dilation=dilation)
        self.prelu = nn.PReLU()
        self.norm = ChannelLayerNorm(channels)
        self.film = nn.Linear(condition_size, 2 * channels) if condition_size else None
        if self.film is not None:
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, mask: Tensor | None, condition: Tensor | None = None) -> Tensor:
        """Process (B, C, F); what ``mask`` (B, 1, F) leaves out comes out as zeros. ``condition`` is (B, size)."""
        y = self.norm(self.prelu(self.convolution(x)))
        if self.film is not None and condition is not None:
            scale, shift = self.film(condition)[..., None].chunk(2, dim=1)
            y = y * (1 + scale) + shift
        x = x + y
        return x if mask is None else x * mask


class Wavesplit(Model, name="separation/wavesplit"):
    """Wavesplit: a stack that hears who talks, k-means, and a stack that is told who talks and separates.

    N. Zeghidour, D. Grangier, "Wavesplit: end-to-end speech separation by speaker clustering", IEEE/ACM TASLP 2021,
    arXiv 2002.08933; section III.

    The **speaker stack** gives a vector of unit length per talker in every frame. In training, the vectors of each
    frame are assigned to the talkers by the best permutation of the speaker loss, frame by frame, and averaged over
    time; in use, k-means over all of them finds the centres. The **separation stack** is conditioned on the centres, in
    the talkers' order, in every layer, and so has no permutation left to choose. Its loss is the SDR, clipped, of the
    outputs of all blocks or all layers.

    Published: SI-SNRi 22.2 dB, SDRi 22.3 dB on WSJ0-2Mix, 17.8 dB on WSJ0-3Mix; 29 M parameters (30.0 M here). There is
    no code of the authors. The first author, in the discussion of a reimplementation
    (https://github.com/asteroid-team/asteroid/pull/70 and issue 73), confirms encoders of 4 samples without stride, one
    per stack; convolutions that are not separable; dilations that begin anew in every block of the separation stack
    alone; 1x1 convolutions to the waveforms, no masks; one of them for each layer, with weights of its own; and says
    that one-hot rows begin better. The recipe for WSJ0-2Mix has them. The 512 channels throughout that he names (256
    "should not change much") make far more than 29 M with these layers: 320 channels and vectors of 256 come near.
    Ours: the average of the outputs' losses, the default rates of the regularisers, that mixup keeps more than half of
    a speaker, and the "mask" output.

    The table of training speakers and the sharpness of their classification are trained, and saved with the model, but
    serve its training alone.
    """

    Config = WavesplitConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_speakers": 8,
        "num_channels": 16,
        "speaker_size": 6,
        "kernel_size": 16,
        "stride": 8,
        "num_speaker_layers": 2,
        "num_blocks": 2,
        "num_block_layers": 2,
        "output": "mask",
        "speaker_noise": 0.0,
        "speaker_dropout": 0.0,
        "speaker_mixup": 0.0,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 22.2,
        "SDRi on WSJ0-2Mix (dB)": 22.3,
        "SI-SNRi on WSJ0-3Mix (dB)": 17.8,
        "SDRi on WSJ0-3Mix (dB)": 18.1,
        "parameters (million)": 29.0,
    }
    num_stages: ClassVar[int] = 1

    def __init__(self, config: WavesplitConfig) -> None:
        super().__init__(config)
        channels, kernel_size, sources = config.num_channels, config.layer_kernel_size, config.num_sources
        self.speaker_encoder = Encoder(channels, config.kernel_size, config.stride)
        self.speaker_layers = nn.ModuleList(
            Layer(channels, kernel_size, 2**number) for number in range(config.num_speaker_layers)
        )
        self.to_speakers = nn.Linear(channels, sources * config.speaker_size)
        filters = (channels, config.kernel_size, config.stride)
        # Masked features need frames that give the waveform back; of the paper's stack every frame is a sample.
        self.encoder = Encoder(*filters, activation="relu" if config.output == "mask" else "linear")
        self.decoder = Decoder(*filters) if config.output == "mask" else None
        if self.decoder is not None and config.initial_filters == "harmonic":
            begin_harmonic(self.encoder, self.decoder)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                Layer(channels, kernel_size, 2**number, sources * config.speaker_size)
                for number in range(config.num_block_layers)
            )
            for _ in range(config.num_blocks)
        )
        outputs = channels if config.output == "mask" else 1
        num_heads = config.num_blocks * (config.num_block_layers if config.heads == "layer" else 1)
        self.heads = nn.ModuleList(nn.Linear(channels, sources * outputs) for _ in range(num_heads))
        table = torch.randn(config.num_speakers, config.speaker_size)
        if config.initial_table == "one-hot":
            table = torch.eye(config.num_speakers, config.speaker_size)
        self.table = nn.Parameter(F.normalize(table, dim=-1))
        self.sharpness = nn.Parameter(torch.tensor(5.0)) if config.speaker_loss == "classification" else None

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (B, time) in [-1, 1] into estimates (B, S, time).

        ``lengths`` (B,) are the valid samples of each example: what lies after them is taken as silence, leaves the
        valid samples as they are, and comes out as zeros. Without ``lengths``, all samples are valid.
        """
        num_samples, mask = mixture.shape[-1], None
        if lengths is not None:
            valid = length_mask(lengths, num_samples)
            mixture = mixture.masked_fill(~valid, 0)
            num_frames = max(0, num_samples - self.config.kernel_size) // self.config.stride + 1
            mask = length_mask(self.encoder.num_frames(lengths), num_frames)[:, None]
        level = rms_level(mixture, lengths)
        vectors = self.speaker_vectors(mixture / level, mask)
        weights = torch.ones_like(vectors[..., 0])
        if mask is not None:
            weights = weights * mask.transpose(1, 2)
        centres, _ = kmeans(
            vectors.flatten(1, 2),
            weights.flatten(1),
            self.config.num_sources,
            num_iterations=self.config.num_iterations,
        )
        estimates = self.separate(mixture / level, centres, mask, every_head=False)[0] * level[:, None]
        estimates = estimates.to(mixture.dtype)
        return estimates if lengths is None else estimates * valid[:, None]

    def speaker_vectors(self, mixture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Vectors of unit length (B, F, S, D) of a mixture (B, time) of level one; ``mask`` (B, 1, F) marks frames."""
        x = self.speaker_encoder(mixture)
        x = x if mask is None else x * mask
        for layer in self.speaker_layers:
            x = layer(x, mask)
        vectors: Tensor = self.to_speakers(x.transpose(1, 2)).float()
        return F.normalize(vectors.view(*vectors.shape[:2], self.config.num_sources, -1), dim=-1)

    def separate(
        self, mixture: Tensor, centres: Tensor, mask: Tensor | None = None, *, every_head: bool
    ) -> list[Tensor]:
        """Estimates (B, S, time), of every head or of the last, of a mixture (B, time) of level one.

        ``centres`` (B, S, D) tell who talks, and in which order; ``mask`` (B, 1, F) marks frames.
        """
        features = self.encoder(mixture)
        x = features = features if mask is None else features * mask
        condition = centres.flatten(1)
        layers = [layer for block in self.blocks for layer in cast(nn.ModuleList, block)]
        layers_per_head = len(layers) // len(self.heads)
        outputs = []
        for number, layer in enumerate(layers, start=1):
            x = layer(x, mask, condition)
            if number == len(layers) or (every_head and number % layers_per_head == 0):
                head = self.heads[number // layers_per_head - 1](x.transpose(1, 2))
                outputs.append(self._waveforms(head, features, mask, mixture.shape[-1]))
        return outputs

    def losses(self, batch: Batch, stage: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Clipped SDR of all outputs, the speaker loss and the entropy term (section III-B to III-D)."""
        config, mixture, sources = self.config, batch["mixture"], batch["sources"]
        speakers = self._checked_speakers(batch)
        level = rms_level(mixture)
        vectors = self.speaker_vectors(mixture / level)
        centres, speaker_loss = self._assigned(vectors, speakers)
        table = F.normalize(self.table, dim=-1)
        entropy_loss = spread_loss(table)
        estimates = self.separate(mixture / level, self._disturbed(centres), every_head=True)
        audible = ~is_silent(sources)
        count = audible.sum().clamp(min=1)
        sdr_losses = []
        for estimate in estimates:
            targets = sources / level[:, None]
            if config.order == "best":
                values = pit_pairwise(pairwise(snr, estimate.float(), targets)).values
            else:
                values = snr(estimate.float(), targets)
            values = torch.where(audible, values, 0.0)
            sdr_losses.append(-clip_db(values, config.max_sdr_db).sum() / count)
        sdr_loss = torch.stack(sdr_losses).mean()
        loss = sdr_loss + config.speaker_weight * speaker_loss + config.entropy_weight * entropy_loss
        with torch.no_grad():
            improvement = pit_objective(estimates[-1], sources, mixture)["si_snri_db"]
        return {
            "loss": loss,
            "sdr_loss": sdr_loss.detach(),
            "speaker_loss": speaker_loss.detach(),
            "si_snri_db": improvement,
        }

    def _assigned(self, vectors: Tensor, speakers: Tensor) -> tuple[Tensor, Tensor]:
        """The talkers' mean vectors (B, S, D), in the order of ``speakers`` (B, S), and the mean speaker loss.

        The vectors (B, F, S, D) of every frame go to the talkers by the permutation of the least loss (equation 2).
        """
        table = F.normalize(self.table, dim=-1)
        # Every vector as every talker: (B, F, vectors, talkers).
        distances = (vectors[:, :, :, None] - table[speakers][:, None, None]).square().sum(-1)
        if self.sharpness is not None:
            all_distances = 2 - 2 * vectors @ table.T
            sharpness = F.softplus(self.sharpness)
            costs = sharpness * distances + torch.logsumexp(-sharpness * all_distances, -1, keepdim=True)
        else:
            between = (vectors[:, :, :, None] - vectors[:, :, None]).square().sum(-1)
            others = ~torch.eye(vectors.shape[2], dtype=torch.bool, device=vectors.device)
            costs = distances + (F.relu(1 - between) * others).sum(-1, keepdim=True)
        permutations = torch.tensor(list(itertools.permutations(range(vectors.shape[2]))), device=vectors.device)
        talkers = torch.arange(vectors.shape[2], device=vectors.device)
        totals = costs[:, :, permutations, talkers].mean(-1)
        best = totals.min(-1)
        order = permutations[best.indices]
        centres = vectors.gather(2, order[..., None].expand_as(vectors)).mean(1)
        return centres, best.values.mean()

    def _disturbed(self, centres: Tensor) -> Tensor:
        """Speaker mixup, speaker dropout and noise, in training only, on (B, S, D) (section III-D)."""
        if not self.training:
            return centres
        config, shape = self.config, centres.shape[:2]
        if config.speaker_mixup > 0:
            others = centres.flatten(0, 1)[torch.randperm(shape.numel())].view_as(centres)
            share = 0.5 * torch.rand(shape) * (torch.rand(shape) < config.speaker_mixup)
            centres = torch.lerp(centres, others, share[..., None].to(centres))
        if config.speaker_dropout > 0:
            kept = torch.rand(shape) >= config.speaker_dropout
            centres = centres * kept[..., None].to(centres)
        noise: Tensor = config.speaker_noise * torch.randn(centres.shape).to(centres)
        return centres + noise

    def _checked_speakers(self, batch: Batch) -> Tensor:
        speakers, size = cast(Tensor, batch["speakers"]), self.config.num_speakers
        if bool((speakers < 0).any()):
            raise RecipeError(
                "Wavesplit learns from mixtures whose talkers are all known and as many as model.config.num_sources; "
                "leave data.min_sources out, or prepare the corpus with its speakers"
            )
        if bool((speakers >= size).any()):
            raise RecipeError(
                f"the data have a speaker of number {int(speakers.max())}, and the table ends at {size - 1}: set "
                f"model.config.num_speakers to the number of speakers in the data"
            )
        return speakers

    def _waveforms(self, x: Tensor, features: Tensor, mask: Tensor | None, num_samples: int) -> Tensor:
        """Waveforms (B, S, num_samples) of a head's output (B, F, S * outputs)."""
        x = x.view(*x.shape[:2], self.config.num_sources, -1).transpose(1, 2)
        if self.decoder is not None:
            estimates: Tensor = self.decoder(torch.sigmoid(x) * features.transpose(1, 2)[:, None], num_samples)
            return estimates
        x = x[..., 0] if mask is None else x[..., 0] * mask
        return F.pad(x, (0, num_samples - x.shape[-1]))


def spread_loss(table: Tensor) -> Tensor:
    """Minus the mean log distance of each row of a table (speakers, D) to its nearest: rows far apart are uncertain.

    The Kozachenko-Leonenko estimate of the entropy, as in the paper's section III-D.
    """
    distances: Tensor = torch.cdist(table, table, compute_mode="donot_use_mm_for_euclid_dist")
    distances = distances + 1e3 * torch.eye(len(table), device=table.device)
    nearest: Tensor = distances.min(-1).values
    return -torch.log(nearest + 1e-6).mean()
