"""DeepCASA: separate every frame first, and find out afterwards which talker each part of it belongs to."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from auriscope.metrics.pit import best_permutation, permute
from auriscope.metrics.ratios import is_silent, snr
from auriscope.nn.masks import length_mask
from auriscope.separation.convtasnet import ConvTasNetConfig, TemporalConvBlock
from auriscope.separation.deepclustering import affinity_loss
from auriscope.separation.denseunet import DenseLayer, DenseUNet
from auriscope.separation.kmeans import kmeans
from auriscope.separation.layers import GlobalLayerNorm
from auriscope.separation.spectral import SpectralModel, rms_level
from auriscope.training.task import Batch


@dataclass(frozen=True)
class DeepCASAConfig:
    """The configuration of DeepCASA; the defaults are the paper's (section IV) and, for what it leaves out, its code's.

    Args:
        sample_rate: in hertz.
        num_sources: talkers.
        window_length: in samples.
        hop_length: in samples.
        num_channels: of every layer of the Dense-UNet.
        num_layers: of every dense block; the middle one maps the frequencies.
        num_scales: how often the Dense-UNet halves time and frequency.
        dropout: before every halving, in training.
        feature_channels: of the layers before the temporal network.
        num_feature_layers: how many those are.
        bottleneck_channels: of the temporal network, between blocks.
        hidden_channels: of the temporal network, in its blocks.
        num_blocks: of the temporal network, in a repeat; the dilation doubles from one to the next.
        num_repeats: of the temporal network.
        tap_dropout: how often a block's filter loses its left or its right tap, in training.
        embedding_size: dimension of a frame's embedding.
        magnitude_power: exponent of the magnitudes that the networks see; 1 in the paper.
        num_iterations: of k-means.
        sharpness: with 0, a frame's tracks are put in the order of the nearest cluster, as in the paper; above it, all
            orders share the frame, each with a weight that falls exponentially with this times the squared distance.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    window_length: int = 256
    hop_length: int = 64
    num_channels: int = 64
    num_layers: int = 5
    num_scales: int = 4
    dropout: float = 0.5
    feature_channels: int = 16
    num_feature_layers: int = 4
    bottleneck_channels: int = 256
    hidden_channels: int = 512
    num_blocks: int = 7
    num_repeats: int = 4
    tap_dropout: float = 0.3
    embedding_size: int = 40
    magnitude_power: float = 1.0
    num_iterations: int = 20
    sharpness: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.magnitude_power <= 1:
            raise ValueError("magnitude_power must be above 0 and at most 1")
        if self.sharpness < 0:
            raise ValueError("sharpness must not be negative")
        if self.num_layers < 2:
            raise ValueError("num_layers must be at least 2: one of them maps the frequencies")
        if self.embedding_size < self.num_sources:
            raise ValueError("embedding_size must be at least num_sources")


class DeepCASA(SpectralModel, name="separation/deepcasa"):
    """DeepCASA: simultaneous grouping within every frame, then sequential grouping of the frames.

    Y. Liu, D. Wang, "Divide and Conquer: A Deep CASA Approach to Talker-independent Monaural Speaker Separation",
    IEEE/ACM TASLP 2019, arXiv 1904.11148; section III.

    Stage 0 trains a Dense-UNet of complex ratio masks. Its tracks are put in the order that is best for every frame
    before they are compared with the sources, by their SNR (section III.A). Stage 1 leaves it as it is, and trains a
    temporal convolutional network that sees the mixture and the tracks, and gives every frame a vector: frames in
    the same order are to have the same one (section III.B; deep clustering's objective, weighted by what the order
    matters in a frame). To separate, k-means of the vectors tells the order of every frame.

    Published: SI-SNRi 17.7 dB, SDRi 18.0 dB on WSJ0-2Mix; 12.8 M parameters. 12.70 M here: the authors' code
    (https://github.com/yuzhou-git/deep-casa) has 12,763,000, of which 49 thousand are for frequencies that it adds as
    zeros and crops away, where convolutions pad with zeros here, and 29 thousand are slopes of PReLUs, one per channel
    there and one per layer here; depthwise filters have a bias here (14 thousand) and none there.

    Other than in the authors' code: vectors have unit length, as in deep clustering, where theirs end with the
    hyperbolic tangent; a pair of frames counts by the product of their weights, where theirs multiply the squares of
    the weights; k-means weighs the frames by their magnitude, where theirs takes those within 27 dB of the loudest all
    alike; and a frame goes to the nearest centre, where theirs goes to that of the largest inner product. Ours where
    neither says anything: two clusters whose centres have a cosine above 0.9 are one (a whole recording may have come
    out in one order); the first masks share the mixture out evenly. Of three sources and more, every track of a frame
    has a vector of its own, which tells the source it belongs to, since clusters of orders would not tell which order
    each is; for two sources that is the paper's.
    """

    Config = DeepCASAConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "window_length": 64,
        "hop_length": 32,
        "num_channels": 8,
        "num_layers": 3,
        "num_scales": 2,
        "dropout": 0.0,
        "feature_channels": 4,
        "num_feature_layers": 2,
        "bottleneck_channels": 16,
        "hidden_channels": 24,
        "num_blocks": 2,
        "num_repeats": 2,
        "tap_dropout": 0.0,
        "embedding_size": 8,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 17.7,
        "SDRi on WSJ0-2Mix (dB)": 18.0,
        "parameters (million)": 12.8,
    }
    num_stages: ClassVar[int] = 2

    def __init__(self, config: DeepCASAConfig) -> None:
        super().__init__(config)
        num_bins, num_sources = self.stft.num_frequencies, config.num_sources
        self.simultaneous = DenseUNet(
            2,
            2 * num_sources,
            num_bins,
            num_channels=config.num_channels,
            num_layers=config.num_layers,
            num_scales=config.num_scales,
            dropout=config.dropout,
        )
        with torch.no_grad():
            self.simultaneous.output.weight.mul_(0.3)
            # Real parts of 1 / S, through the mapping of masks below.
            shares = torch.full((num_sources,), 10 * math.tanh(1 / (20 * num_sources)))
            self.simultaneous.output.bias = nn.Parameter(torch.cat([shares, torch.zeros(num_sources)]))
        self.num_vectors = 1 if num_sources == 2 else num_sources
        self.sequential = SequentialGrouping(config, num_bins, self.num_vectors)

    def masks(self, spectrum: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Complex masks (B, S, K, F) for a spectrum (B, K, F), every talker's at one place throughout."""
        masks = self.frame_masks(spectrum, frame_lengths)
        vectors = self.sequential(self._seen(spectrum), self._seen(masks * spectrum[:, None]), frame_lengths)
        magnitude = spectrum.abs().mean(1)
        # Frames 40 dB below the loudest tell nothing.
        weights = magnitude * (magnitude > 0.01 * magnitude.amax(1, keepdim=True))
        if frame_lengths is not None:
            weights = weights * length_mask(frame_lengths, weights.shape[1])
        shares = self.group(vectors, weights).to(masks.dtype)
        return (shares @ masks.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def frame_masks(self, spectrum: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Complex masks (B, S, K, F) for a spectrum (B, K, F), in an order of its own in every frame."""
        seen = self._seen(spectrum)
        parts = self.simultaneous(torch.stack([seen.real, seen.imag], dim=1), frame_lengths).float()
        # The authors' mapping of what a network gives to masks of any size; its slope at zero is two.
        parts = 20 * torch.atanh(parts.clamp(-9.999, 9.999) / 10)
        return torch.complex(*parts.chunk(2, dim=1))

    def group(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """How much of every track belongs to every source, by the vectors (B, F, V, D) of frames of ``weights`` (B, F).

        Gives (B, F, S, S): at [b, f, s, t] the share of track t for source s. With a ``sharpness`` of zero all shares
        are zero or one.
        """
        num_frames, num_vectors = vectors.shape[1:3]
        num_sources, sharpness = self.config.num_sources, self.config.sharpness
        every = weights.repeat_interleave(num_vectors, dim=1)
        centres, _ = kmeans(vectors.flatten(1, 2), every, num_sources, num_iterations=self.config.num_iterations)
        # The distance (B, F, V, S) of every vector from every centre.
        distances = (vectors[:, :, :, None] - centres[:, None, None]).square().sum(-1)
        orders = torch.tensor(list(itertools.permutations(range(num_sources))), device=vectors.device)
        if num_vectors == 1:
            # Frames in the first cluster are in the first of both orders, those in the second in the second.
            costs = distances[:, :, 0]
            apart = (centres[:, 0] * centres[:, 1]).sum(-1) < 0.9 * centres.norm(dim=-1).prod(-1)
            costs = torch.where(apart[:, None, None], costs, costs.new_tensor([0.0, 1e9]))
        else:
            costs = distances[:, :, orders, torch.arange(num_sources, device=vectors.device)].sum(-1)
        if sharpness:
            chances = torch.softmax(-sharpness * costs, dim=-1)
        else:
            chances = nn.functional.one_hot(costs.argmin(-1), len(orders)).to(costs.dtype)
        places = nn.functional.one_hot(orders, num_sources).to(costs.dtype)
        return (chances @ places.flatten(1)).view(-1, num_frames, num_sources, num_sources)

    def losses(self, batch: Batch, stage: int) -> dict[str, Tensor]:
        """Minus the SNR in dB of the frames in their best order (stage 0); how far vectors are from it (stage 1)."""
        level = rms_level(batch["mixture"])
        sources = batch["sources"] / level[..., None]
        spectrum, targets = self.transform(batch["mixture"] / level), self.transform(sources)
        with torch.set_grad_enabled(stage == 0 and torch.is_grad_enabled()):
            tracks = self.frame_masks(spectrum) * spectrum[:, None]
        order, weights = best_order(tracks, targets)
        if stage == 0:
            estimates = self.inverse(_by_frames(tracks, order), sources.shape[-1])
            audible = ~is_silent(sources, zero_mean=False)
            values = torch.where(audible, snr(estimates, sources), 0.0)
            return {"loss": -values.sum() / audible.sum().clamp(min=1)}
        vectors = self.sequential(self._seen(spectrum), self._seen(tracks))
        # The source of every track, or of the first of two, which tells the other's.
        labels = order.argsort(-1)[..., : self.num_vectors].flatten(1)
        weights = weights.repeat_interleave(self.num_vectors, dim=1) / self.num_vectors
        one_hot = nn.functional.one_hot(labels, self.config.num_sources).to(vectors.dtype)
        # A pair of frames counts by the product of their weights (equation 10).
        return {"loss": affinity_loss(vectors.flatten(1, 2), one_hot, weights).mean()}

    def _seen(self, spectrum: Tensor) -> Tensor:
        """A spectrum (…, K, F) as the networks see it, with the configured power of its magnitudes."""
        if self.config.magnitude_power == 1:
            return spectrum
        flatter: Tensor = spectrum * spectrum.abs().clamp(min=1e-4) ** (self.config.magnitude_power - 1)
        return flatter


def best_order(tracks: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The order (B, F, S) of the tracks in every frame that is nearest to the targets, and what it matters.

    Spectra are (B, S, K, F), complex. Tracks and targets are compared by the sum of the absolute differences of real
    and imaginary parts. The weights (B, F) are by how much the other orders, on average, are worse than the best; those
    of a recording add up to one (section III.B, equation 9).
    """
    with torch.no_grad():
        difference = tracks[:, :, None] - targets[:, None]
        losses = (difference.real.abs() + difference.imag.abs()).mean(3).permute(0, 3, 1, 2)
        batch, num_frames, num_sources, _ = losses.shape
        order = best_permutation(losses.flatten(0, 1), maximize=False).view(batch, num_frames, num_sources)
        best = losses.gather(2, order[:, :, None]).sum((2, 3))
        # Over all S! orders, every pair of a track and a target occurs in one of S.
        count = math.factorial(num_sources)
        everything = losses.sum((2, 3)) * count / num_sources
        weights = (everything - count * best) / max(1, count - 1)
        weights = weights.clamp(min=0)
        return order, weights / weights.sum(1, keepdim=True).clamp(min=1e-8)


def _by_frames(spectra: Tensor, order: Tensor) -> Tensor:
    """Put the tracks of spectra (B, S, K, F) into the order (B, F, S) of every frame."""
    frames = spectra.permute(0, 3, 1, 2)
    ordered = permute(frames.flatten(0, 1), order.flatten(0, 1))
    return ordered.view(frames.shape).permute(0, 2, 3, 1)


class SequentialGrouping(nn.Module):
    """A dense block over frequencies, a temporal convolutional network, and vectors for every frame (section III.B)."""

    def __init__(self, config: DeepCASAConfig, num_bins: int, num_vectors: int) -> None:
        super().__init__()
        self.num_vectors, channels = num_vectors, config.feature_channels
        num_in = 3 * (1 + config.num_sources)
        self.features = nn.ModuleList(
            DenseLayer(num_in + index * channels, channels, kernel_size=(3, 1))
            for index in range(config.num_feature_layers)
        )
        self.bottleneck = nn.Conv1d(num_bins * channels, config.bottleneck_channels, 1)
        self.norm = GlobalLayerNorm(config.bottleneck_channels)
        tcn = ConvTasNetConfig(
            bottleneck_channels=config.bottleneck_channels, hidden_channels=config.hidden_channels, skip_channels=0
        )
        self.num_blocks = config.num_blocks
        self.blocks = nn.ModuleList()
        for index in range(config.num_repeats * config.num_blocks):
            block = TemporalConvBlock(tcn, 2 ** (index % config.num_blocks), has_residual=True)
            if config.tap_dropout:
                parametrize.register_parametrization(block.depthwise, "weight", TapDropout(config.tap_dropout))
            self.blocks.append(block)
        # The sum over the repeats begins with the last of them alone.
        self.gains = nn.Parameter(torch.eye(config.num_repeats)[-1])
        self.to_vectors = nn.Conv1d(config.bottleneck_channels, num_vectors * config.embedding_size, 1)

    def forward(self, mixture: Tensor, tracks: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Spectra of the mixture (B, K, F) and of its tracks (B, S, K, F) to vectors (B, F, V, D) of unit length."""
        spectra = torch.cat([mixture[:, None], tracks], dim=1)
        image = torch.cat([spectra.real, spectra.imag, spectra.abs()], dim=1)
        mask = None if frame_lengths is None else length_mask(frame_lengths, image.shape[-1])[:, None]
        image_mask = None if mask is None else mask[:, :, None]
        last = image
        for layer in self.features:
            last = layer(image, image_mask)
            image = torch.cat([image, last], dim=1)
        x = self.norm(self.bottleneck(last.flatten(1, 2)), mask)
        total = torch.zeros_like(x)
        for index, block in enumerate(self.blocks, 1):
            x = x + block(x, mask)[0]
            if index % self.num_blocks == 0:
                total = total + self.gains[index // self.num_blocks - 1] * x
        vectors = torch.tanh(self.to_vectors(total)).float().transpose(1, 2)
        return nn.functional.normalize(vectors.view(*vectors.shape[:2], self.num_vectors, -1), dim=-1)


class TapDropout(nn.Module):
    """Drop the left and the right tap of all filters of a layer, each with probability ``p``, in training.

    As a parametrisation of filters (C, 1, 3). Taps that stay are not scaled, as in the authors' code.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, weight: Tensor) -> Tensor:
        """Filters, with taps dropped in training."""
        if not self.training:
            return weight
        keep = torch.rand(weight.shape[-1], device=weight.device) >= self.p
        keep[weight.shape[-1] // 2] = True
        return weight * keep
