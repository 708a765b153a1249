"""PLDA: what of an embedding tells a voice, and what only its recording, learnt from recordings of many people.

Linear discriminant analysis and length normalisation, then the two-covariance model: a voice is drawn from a normal
distribution, and each of its recordings from another one around it. Sources: Brümmer and de Villiers, "The speaker
partitioning problem" (Odyssey 2010), for the model; Garcia-Romero and Espy-Wilson, "Analysis of i-vector length
normalization in speaker recognition systems" (Interspeech 2011), for the normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.pretrained.model import Model


@dataclass(frozen=True)
class PldaConfig:
    """``embedding_dim`` is the length of the embeddings, ``dim`` what is kept of it; ``num_iterations`` are of EM."""

    embedding_dim: int = 512
    dim: int = 150
    num_iterations: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.dim <= self.embedding_dim or self.num_iterations < 1:
            raise ValueError("dim must be 1 to embedding_dim, and num_iterations 1 at least")


class Plda(Model, name="speaker/plda"):
    """Score pairs of embeddings (batch, embedding_dim) by the logarithm of a likelihood ratio (batch,).

    :meth:`fit` learns it from embeddings of several recordings of each of many people; until then it raises
    ``AuriscopeError``. In the space that is kept, recordings of one voice have the unit covariance and voices a
    diagonal one, ``between``.
    """

    Config = PldaConfig
    Tiny: ClassVar[dict[str, Any]] = {"embedding_dim": 8, "dim": 3}
    fitted = True
    instead = "scores pairs of embeddings"

    mean: Tensor
    projection: Tensor
    centre: Tensor
    basis: Tensor
    between: Tensor

    def __init__(self, config: PldaConfig) -> None:
        super().__init__(config)
        self.register_buffer("mean", torch.zeros(config.embedding_dim))
        self.register_buffer("projection", torch.zeros(config.embedding_dim, config.dim))
        self.register_buffer("centre", torch.zeros(config.dim))
        self.register_buffer("basis", torch.zeros(config.dim, config.dim))
        self.register_buffer("between", torch.zeros(config.dim))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, speakers: Sequence[Any]) -> Self:
        """Learn from embeddings (recordings, embedding_dim) and whose each is; gives itself.

        ``AuriscopeError`` if they are not finite, or there are too few: more speakers than ``dim``, some with several
        recordings.
        """
        codes = torch.tensor([{name: i for i, name in enumerate(dict.fromkeys(speakers))}[name] for name in speakers])
        num_speakers = int(codes.max()) + 1 if len(codes) else 0
        if not embeddings.isfinite().all():
            raise AuriscopeError("PLDA cannot be fitted to NaN or infinity")
        if num_speakers <= self.config.dim or num_speakers == len(codes):
            raise AuriscopeError(
                f"PLDA of {self.config.dim} dimensions needs more speakers than that, and several recordings of each; "
                f"there are {len(codes)} recordings of {num_speakers} speakers"
            )
        values = embeddings.double()
        mean = values.mean(0)
        projection = _discriminants(values - mean, codes, num_speakers, self.config.dim)
        short = _unit(values - mean, projection)
        centre, between, within = two_covariances(short, codes, self.config.num_iterations)
        eigenvalues, basis = _diagonalise(between, within)
        learnt = {"mean": mean, "projection": projection, "centre": centre, "basis": basis, "between": eigenvalues}
        for name, value in learnt.items():
            getattr(self, name).copy_(value)
        return self

    def project(self, embedding: Tensor) -> Tensor:
        """Bring embeddings (batch, embedding_dim) into the space that is kept: (batch, dim)."""
        if not self.between.any():
            raise AuriscopeError("this PLDA has not been fitted; call fit with embeddings of known speakers")
        return (_unit(embedding.float() - self.mean, self.projection) - self.centre) @ self.basis

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Score pairs, (batch, embedding_dim) each: log of the likelihood of one voice over that of two, (batch,)."""
        one, other = self.project(first), self.project(second)
        b = self.between
        # Both from one voice: their half-sum and half-difference are independent, of variances 1 + 2b and 1.
        together = (one + other).square() / (1 + 2 * b) + (one - other).square()
        apart = (one.square() + other.square()) / (1 + b)
        constant = 2 * torch.log1p(b) - torch.log1p(2 * b)
        return 0.5 * (apart - 0.5 * together + constant).sum(-1)


def two_covariances(values: Tensor, codes: Tensor, num_iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fit the two-covariance model by EM: the mean of voices (dim,), covariance between and within (dim, dim).

    ``values`` (recordings, dim) in 64 bits, ``codes`` (recordings,) number the speakers from 0. Every iteration raises
    the likelihood.
    """
    dim = values.shape[1]
    counts = torch.bincount(codes)
    sums = values.new_zeros(len(counts), dim).index_add_(0, codes, values)
    mean = values.mean(0)
    scatter = (values - mean).mT @ (values - mean) / len(values)
    between, within = 0.5 * scatter, 0.5 * scatter
    eye = 1e-8 * scatter.diagonal().mean() * torch.eye(dim, dtype=values.dtype)
    for _ in range(num_iterations):
        of_voices, of_recordings = torch.linalg.inv(between + eye), torch.linalg.inv(within + eye)
        voices = torch.empty_like(sums)
        spread_of_voices, spread_of_recordings = torch.zeros_like(scatter), torch.zeros_like(scatter)
        for count in sorted(set(counts.tolist())):
            own = counts == count
            covariance = torch.linalg.inv(of_voices + count * of_recordings)
            voices[own] = (of_voices @ mean + sums[own] @ of_recordings) @ covariance
            spread_of_voices += own.sum() * covariance
            spread_of_recordings += own.sum() * count * covariance
        mean = voices.mean(0)
        around, away = voices - mean, values - voices[codes]
        between = (around.mT @ around + spread_of_voices) / len(counts)
        within = (away.mT @ away + spread_of_recordings) / len(values)
    return mean, between, within


def _discriminants(values: Tensor, codes: Tensor, num_speakers: int, dim: int) -> Tensor:
    """The directions (embedding_dim, dim) in which speakers differ most, relative to their recordings."""
    counts = torch.bincount(codes)
    means = values.new_zeros(num_speakers, values.shape[1]).index_add_(0, codes, values) / counts[:, None]
    away = values - means[codes]
    within = away.mT @ away / len(values)
    between = (means * counts[:, None]).mT @ means / len(values)
    # Embeddings may lie in a subspace; a little of the sphere keeps it invertible.
    within = within + 1e-4 * within.diagonal().mean() * torch.eye(len(within), dtype=values.dtype)
    return _diagonalise(between, within)[1][:, :dim]


def _diagonalise(between: Tensor, within: Tensor) -> tuple[Tensor, Tensor]:
    """Give eigenvalues, the largest first, and the basis in which ``within`` is the unit and ``between`` diagonal."""
    whitening = torch.linalg.inv(torch.linalg.cholesky(within)).mT
    values, vectors = torch.linalg.eigh(whitening.mT @ between @ whitening)
    return values.flip(0).clamp_min(0), (whitening @ vectors).flip(-1)


def _unit(centred: Tensor, projection: Tensor) -> Tensor:
    projected = centred @ projection
    return math.sqrt(projected.shape[-1]) * F.normalize(projected, dim=-1)
