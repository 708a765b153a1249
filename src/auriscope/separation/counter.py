"""The count head: a small network that hears from the mixture alone how many people talk in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask
from auriscope.pretrained.model import Model
from auriscope.separation.layers import ChannelLayerNorm
from auriscope.separation.spectral import rms_level
from auriscope.signal.stft import make_window, stft
from auriscope.training.task import Batch

_TURN_SHARE = 0.5
_EDGE_SECONDS = 0.05
_HEARD = 0.01


@dataclass(frozen=True)
class TalkerCountConfig:
    """The configuration of the count head.

    ``max_talkers`` is the most that it tells; more count as that many. ``window_size`` and ``hop_size`` are in samples:
    64 ms tell the harmonics of two voices apart. ``num_layers`` residual layers of ``num_channels`` channels listen to
    ``kernel_size`` frames each, twice as far apart from layer to layer.
    """

    sample_rate: int = 8000
    max_talkers: int = 4
    window_size: int = 512
    hop_size: int = 128
    num_channels: int = 72
    num_layers: int = 4
    kernel_size: int = 3

    def __post_init__(self) -> None:
        if self.max_talkers < 2:
            raise ValueError("max_talkers must be at least 2")
        if self.kernel_size % 2 == 0:
            raise ValueError("kernel_size must be odd")
        if not 0 < self.hop_size <= self.window_size:
            raise ValueError("hop_size must be at least 1 and at most window_size")

    @property
    def num_sources(self) -> int:
        """The most talkers of a mixture to learn from."""
        return self.max_talkers


class TalkerCountNet(Model, name="separation/counter"):
    """Log spectra at a level of their own, dilated residual convolutions, statistics over time, an MLP.

    Classifying the mixture is what T. Stöter, S. Chakrabarty, B. Edler, E. Habets, "CountNet: estimating the number of
    concurrent speakers using supervised learning", TASLP 2019, and, beside separators, S. Chazan, L. Wolf, E. Nachmani,
    Y. Adi, "Single channel voice separation for unknown number of speakers under reverberant and noisy settings",
    ICASSP 2021, arXiv 2011.02329, do; the network is ours, small enough to ship. Where these count who talks at one
    moment, this one counts the voices of a recording: half of what it learns from are conversations by turns.
    """

    Config = TalkerCountConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "max_talkers": 3,
        "window_size": 64,
        "hop_size": 32,
        "num_channels": 24,
        "num_layers": 2,
    }
    instead: ClassVar[str] = "counts talkers"
    num_stages: ClassVar[int] = 1
    selection_metric: ClassVar[str] = "count_accuracy"
    higher_is_better: ClassVar[bool] = True

    def __init__(self, config: TalkerCountConfig) -> None:
        super().__init__(config)
        channels = config.num_channels
        self.window: Tensor
        self.register_buffer("window", make_window("hann", config.window_size), persistent=False)
        self.bottleneck = nn.Linear(config.window_size // 2 + 1, channels)
        self.norms = nn.ModuleList(ChannelLayerNorm(channels) for _ in range(config.num_layers + 1))
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, channels, config.kernel_size, padding="same", dilation=2**number)
            for number in range(config.num_layers)
        )
        self.at_once = nn.Linear(channels, config.max_talkers + 1)
        self.hidden = nn.Linear(2 * channels + config.max_talkers + 1, 64)
        self.output = nn.Linear(64, config.max_talkers)

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (B, max_talkers) of 1, 2, … talkers, the last for that many and more, of mixtures (B, time).

        ``lengths`` (B,) are the valid samples of each example; what lies after them does not matter.
        """
        return self.logits(mixture, lengths)[0]

    def logits(self, mixture: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The logits (B, max_talkers), and those of 0, 1, … talkers at once in every frame, (B, F, max_talkers + 1)."""
        config, num_samples = self.config, mixture.shape[-1]
        if lengths is not None:
            mixture = mixture.masked_fill(~length_mask(lengths, num_samples), 0)
        mixture = F.pad(mixture / rms_level(mixture, lengths), (0, max(0, config.window_size - num_samples)))
        spectra = stft(mixture, self.window, config.hop_size, center=False).abs().square()
        # In decibels over a floor some 60 dB below speech, centred and scaled by what is usual.
        x = self.bottleneck((torch.log10(spectra.transpose(1, 2) + 1e-2) - 1.0) / 2.0).transpose(1, 2)
        mask = torch.ones_like(x[:, :1])
        if lengths is not None:
            valid = (lengths - config.window_size).clamp(min=0) // config.hop_size + 1
            mask = length_mask(valid, x.shape[2])[:, None].to(x.dtype)
        x = x * mask
        for norm, layer in zip(self.norms, self.layers, strict=False):
            x = (x + layer(torch.relu(norm(x)) * mask)) * mask
        x = torch.relu(self.norms[-1](x)) * mask
        num_frames = mask.sum(-1)
        mean = x.sum(-1) / num_frames
        variance = ((x - mean[..., None]).square() * mask).sum(-1) / num_frames
        frames = self.at_once(x.transpose(1, 2))
        shares = (torch.softmax(frames, -1) * mask.transpose(1, 2)).sum(1) / num_frames
        pooled = torch.cat([mean, (variance + 1e-5).sqrt(), shares], dim=-1)
        return self.output(torch.relu(self.hidden(pooled))), frames

    def losses(self, batch: Batch, stage: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The cross-entropies of the number of talkers and of the number that talk at once, frame by frame.

        The latter is an easier lesson that many more examples teach. Half of the mixtures become conversations by turns
        first.
        """
        sources, counts = batch["sources"], batch["num_sources"]
        noise = batch["mixture"] - sources.sum(1)
        chosen = (torch.rand(len(sources)) < _TURN_SHARE).to(sources.device)
        sources = take_turns(sources, torch.where(chosen, counts, 1), round(_EDGE_SECONDS * self.config.sample_rate))
        logits, frames = (values.float() for values in self.logits(sources.sum(1) + noise))
        targets = counts.clamp(max=self.config.max_talkers) - 1
        accuracy = (logits.argmax(-1) == targets).float().mean()
        together = self._talking_at_once(sources).clamp(max=self.config.max_talkers)
        loss, frame_loss = F.cross_entropy(logits, targets), F.cross_entropy(frames.flatten(0, 1), together.flatten())
        return {"loss": loss + frame_loss, "frame_loss": frame_loss.detach(), "count_accuracy": accuracy}

    def _talking_at_once(self, sources: Tensor) -> Tensor:
        """How many sources (B, S, time) are within ``_HEARD`` of their loudest moment in each frame, (B, F)."""
        window, hop = self.config.window_size, self.config.hop_size
        sources = F.pad(sources, (0, max(0, window - sources.shape[-1])))
        power = F.avg_pool1d(sources.square(), window, hop)
        return (power > _HEARD * power.amax(-1, keepdim=True)).sum(1)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """``count_accuracy`` (batch,): 1 where the number of talkers of a mixture is told right, else 0."""
        with torch.no_grad():
            told = self(batch["mixture"], batch["lengths"]).argmax(-1) + 1
        return {"count_accuracy": (told == batch["num_sources"].clamp(max=self.config.max_talkers)).float()}


def take_turns(sources: Tensor, counts: Tensor, edge_samples: int) -> Tensor:
    """Let the talkers of each mixture speak by turns: (B, S, time), random, from torch's generator.

    Each of the ``counts`` (B,) talkers has at least two turns, of random length, and in one turn somebody else talks as
    well. Turns begin and end over ``edge_samples`` samples. A single talker goes on talking.
    """
    num_samples = sources.shape[-1]
    # Drawn on a grid and interpolated between its points, which gives the edges their slope.
    grid = torch.linspace(0, 1, max(2, num_samples // edge_samples))
    masks = torch.ones(*sources.shape[:2], len(grid))
    for row, count in enumerate(counts.tolist()):
        if count < 2:
            continue
        num_turns = 2 * count + int(torch.randint(3, ()))
        edges = torch.rand(num_turns - 1).sort().values
        speakers = torch.randperm(num_turns) % count
        speaks = torch.zeros(count, num_turns)
        speaks[speakers, torch.arange(num_turns)] = 1
        shared = int(torch.randint(num_turns, ()))
        speaks[(int(speakers[shared]) + 1 + int(torch.randint(count - 1, ()))) % count, shared] = 1
        masks[row, :count] = speaks[:, torch.bucketize(grid, edges)]
    return sources * F.interpolate(masks.to(sources), size=num_samples, mode="linear", align_corners=True)
