"""How far a blind estimate can be trusted: the expected error, and whether the input is like the training data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

STATISTICS = ("level", "balance", "duration", "silence")
"""What is measured of every input beside the embedding: the mixture's level in dBFS, the track's level over the
mixture's in dB, the duration in seconds, and the share of the mixture's frames of 32 ms that are more than 40 dB below
its loudest."""

_MARGINS = (20.0, 3.0, 0.5, 0.1)
"""How far beyond the extremes of the training data each statistic may lie (dB, dB, seconds, share). The level gets
much room: the estimators are invariant to gain, and only the steps of 16 bits set a lower limit."""

REASONS = ("score", "embedding", *STATISTICS)
"""Why an input can be outside the range the estimator was trained for, in the order of ``Prediction.outside``."""


@dataclass(frozen=True)
class Prediction:
    """A blind estimate with everything that is known about its reliability; every tensor is (batch, sources).

    ``score_db``: estimated SI-SNR in dB. ``expected_error_db``: expected absolute error of it in dB, >= 0.
    ``outside``: (batch, sources, reasons) bool, true where the input is outside the training range for that one of
    ``REASONS``. ``in_range``: true where no reason holds.
    """

    score_db: Tensor
    expected_error_db: Tensor
    outside: Tensor

    @property
    def in_range(self) -> Tensor:
        """True where the estimator works inside the range it was trained for."""
        return ~self.outside.any(-1)


class Calibration(nn.Module):
    """What held-out data say about an estimator's errors and about the inputs it knows.

    The expected absolute error is the network's Laplace scale times one factor fitted on held-out data, the maximum
    likelihood of that factor (temperature scaling: Guo et al. 2017, "On calibration of modern neural networks",
    section 4, for a regression). An input is unknown when the Mahalanobis distance of its embedding to the training
    embeddings exceeds a quantile of the distances on held-out data (Lee et al. 2018, "A simple unified framework for
    detecting out-of-distribution samples", with one class and a shrunk covariance), or when one of ``STATISTICS`` lies
    outside the training data's. Unfitted, the factor is 1 and nothing is out of range.
    """

    error_factor: Tensor
    embedding_mean: Tensor
    embedding_whitening: Tensor
    distance_limit: Tensor
    statistics_low: Tensor
    statistics_high: Tensor

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        huge = torch.full((len(STATISTICS),), 1e4)
        self.register_buffer("error_factor", torch.ones(()))
        self.register_buffer("embedding_mean", torch.zeros(embedding_size))
        self.register_buffer("embedding_whitening", torch.zeros(embedding_size, embedding_size))
        self.register_buffer("distance_limit", torch.ones(()))
        self.register_buffer("statistics_low", -huge)
        self.register_buffer("statistics_high", huge)

    def distance(self, embedding: Tensor) -> Tensor:
        """Mahalanobis distance per dimension (about 1 on training data): (..., dim) -> (...)."""
        whitened = (embedding.float() - self.embedding_mean.float()) @ self.embedding_whitening.float()
        return whitened.square().mean(-1).sqrt()

    def outside(self, embedding: Tensor, statistics: Tensor) -> Tensor:
        """(..., dim) and (..., statistics) -> (..., 1 + statistics) bool, true where beyond the training data."""
        unknown = self.distance(embedding) > self.distance_limit.float()
        beyond = (statistics < self.statistics_low.float()) | (statistics > self.statistics_high.float())
        return torch.cat([unknown[..., None], beyond], dim=-1)

    @torch.no_grad()
    def fit_inputs(self, embedding: Tensor, statistics: Tensor) -> None:
        """Learn what training inputs look like from (examples, dim) embeddings and (examples, statistics)."""
        embedding = embedding.double()
        mean = embedding.mean(0)
        centred = embedding - mean
        covariance = centred.mT @ centred / max(len(embedding) - 1, 1)
        # Shrinking towards a sphere keeps directions that the training data hardly use from ruling the distance.
        dim = len(mean)
        spread = covariance.diagonal().mean().clamp_min(1e-8)
        covariance = 0.95 * covariance + 0.05 * spread * torch.eye(dim, dtype=torch.float64, device=embedding.device)
        values, vectors = torch.linalg.eigh(covariance)
        self.embedding_mean.copy_(mean)
        self.embedding_whitening.copy_(vectors * values.rsqrt())
        margins = torch.tensor(_MARGINS, device=statistics.device)
        self.statistics_low.copy_(statistics.amin(0) - margins)
        self.statistics_high.copy_(statistics.amax(0) + margins)

    @torch.no_grad()
    def fit_errors(
        self, error_db: Tensor, scale_db: Tensor, embedding: Tensor, *, quantile: float = 0.995, slack: float = 1.1
    ) -> None:
        """Learn the error factor and the distance limit from held-out examples.

        ``error_db`` and ``scale_db`` are (examples,): estimate minus truth, and the network's Laplace scale.
        ``embedding`` is (examples, dim); its ``quantile`` of distances, times ``slack``, becomes the limit.
        """
        self.error_factor.copy_((error_db.abs().double() / scale_db.double().clamp_min(1e-6)).mean())
        self.distance_limit.copy_(slack * torch.quantile(self.distance(embedding), quantile))


def input_statistics(mixture: Tensor, estimates: Tensor, lengths: Tensor, sample_rate: int) -> Tensor:
    """Measure ``STATISTICS`` of (batch, time) and (batch, sources, time) within lengths: (batch, sources, 4).

    Samples beyond ``lengths`` (batch,) must be zero.
    """
    count = lengths.clamp_min(1).to(mixture.dtype)
    power = mixture.square().sum(-1) / count
    track_power = estimates.square().sum(-1) / count[:, None]
    level = 10 * torch.log10(power + 1e-12)
    balance = 10 * torch.log10(track_power + 1e-12) - level[:, None]
    frame = max(1, round(0.032 * sample_rate))
    padded = nn.functional.pad(mixture, (0, -mixture.shape[-1] % frame))
    energies = padded.reshape(len(padded), -1, frame).square().mean(-1)
    num_frames = (lengths + frame - 1) // frame
    valid = torch.arange(energies.shape[-1], device=mixture.device) < num_frames[:, None]
    quiet = (energies <= energies.amax(-1, keepdim=True) * 1e-4) & valid
    silence = quiet.sum(-1) / num_frames.clamp_min(1)
    per_mixture = torch.stack([level, count / sample_rate, silence], dim=-1)[:, None].expand(-1, estimates.shape[1], -1)
    return torch.stack([per_mixture[..., 0], balance, per_mixture[..., 1], per_mixture[..., 2]], dim=-1)


def coverage(error_db: Tensor, expected_error_db: Tensor, probability: float) -> float:
    """Share of errors inside the central Laplace interval of ``probability``: the same number if well calibrated.

    Both are (examples,) in dB; a Laplace variable of mean absolute value b lies within -b ln(1 - p) with probability p.
    """
    half_width = -expected_error_db * torch.log1p(torch.tensor(-probability))
    return float((error_db.abs() <= half_width).double().mean())
