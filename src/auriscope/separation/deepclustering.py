"""Deep clustering: a vector for every bin of the spectrogram, near those of the same talker, then k-means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice, length_mask
from auriscope.separation.kmeans import kmeans
from auriscope.separation.spectral import RecurrentStack, SpectralModel, log_magnitude, rms_level
from auriscope.training.task import Batch


@dataclass(frozen=True)
class DeepClusteringConfig:
    """The configuration of deep clustering; the defaults follow the paper.

    ``window_length`` and ``hop_length`` are in samples; ``hidden_size`` is that of one direction; ``embedding_size`` is
    D. Bins fainter than ``threshold_db`` below the loudest of their recording neither train the network nor move the
    centres of the clusters. ``num_iterations`` is that of k-means. ``weights`` of the others in training are equal
    (``"threshold"``, the paper's) or their magnitudes (``"magnitude"``); ``objective`` is the paper's ``"affinity"`` or
    ``"whitened"`` (:func:`whitened_loss`). Both alternatives are of Wang, Le Roux and Hershey, ICASSP 2018.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    window_length: int = 256
    hop_length: int = 64
    hidden_size: int = 600
    num_layers: int = 2
    embedding_size: int = 40
    dropout: float = 0.0
    threshold_db: float = -40.0
    num_iterations: int = 20
    objective: str = "affinity"
    weights: str = "threshold"

    def __post_init__(self) -> None:
        choice(self.objective, ("affinity", "whitened"), "objective")
        choice(self.weights, ("threshold", "magnitude"), "weights")
        if self.threshold_db >= 0:
            raise ValueError("threshold_db must be negative")
        if self.embedding_size < self.num_sources:
            raise ValueError("embedding_size must be at least num_sources")


class DeepClustering(SpectralModel, name="separation/deepclustering"):
    """Deep clustering: the network learns where talkers agree, not who they are; the clusters are the masks.

    J. R. Hershey, Z. Chen, J. Le Roux, S. Watanabe, "Deep clustering: discriminative embeddings for segmentation and
    separation", ICASSP 2016, arXiv 1508.04306.

    Published: 6.0 dB of SDR improvement on WSJ0-2Mix, as the abstract of its sequel (Isik et al., arXiv 1607.02173)
    has it. The paper gives no number of parameters; ours has 18.4 M with 600 cells in each direction, which the paper
    leaves open. Its bins are left out where fainter than -40 dB. Masks are binary and keep the mixture's phase. The
    number of talkers is only k-means' business: a network trained on two may be asked for three.
    """

    Config = DeepClusteringConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "window_length": 128,
        "hop_length": 32,
        "hidden_size": 16,
        "num_layers": 1,
        "embedding_size": 8,
    }
    Published: ClassVar[dict[str, float]] = {"SDRi on WSJ0-2Mix (dB)": 6.0}
    num_stages: ClassVar[int] = 1

    def __init__(self, config: DeepClusteringConfig) -> None:
        super().__init__(config)
        num_bins = self.stft.num_frequencies
        self.recurrence = RecurrentStack(num_bins, config.hidden_size, config.num_layers, config.dropout)
        self.to_embeddings = nn.Linear(self.recurrence.num_out, num_bins * config.embedding_size)

    def embeddings(self, spectrum: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """One vector of unit length for every bin of a spectrum (B, K, F) of level one: (B, F * K, D), by frames."""
        x = self.to_embeddings(self.recurrence(log_magnitude(spectrum), frame_lengths))
        x = torch.tanh(x).float()
        return F.normalize(x.view(len(x), -1, self.config.embedding_size), dim=-1)

    def masks(self, spectrum: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Binary masks (B, S, K, F) of a spectrum (B, K, F): every bin is the talker's in whose cluster it is."""
        vectors = self.embeddings(spectrum, frame_lengths)
        loud = loud_bins(spectrum, self.config.threshold_db)
        if frame_lengths is not None:
            loud = loud & length_mask(frame_lengths, spectrum.shape[-1])[:, None]
        num_sources = self.config.num_sources
        weights = loud.transpose(1, 2).flatten(1)
        _, talkers = kmeans(vectors, weights, num_sources, num_iterations=self.config.num_iterations)
        masks = F.one_hot(talkers, num_sources).to(spectrum.real.dtype)
        return masks.view(len(masks), spectrum.shape[-1], -1, num_sources).permute(0, 3, 2, 1)

    def losses(self, batch: Batch, stage: int = 0) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of a batch's embeddings against its ideal binary masks, mean over the batch."""
        level = rms_level(batch["mixture"])
        spectrum = self.transform(batch["mixture"] / level)
        targets = dominant_talker(self.transform(batch["sources"] / level[:, None]))
        loud = loud_bins(spectrum, self.config.threshold_db)
        weights = (loud * spectrum.abs() if self.config.weights == "magnitude" else loud).transpose(1, 2).flatten(1)
        objective = affinity_loss if self.config.objective == "affinity" else whitened_loss
        return {"loss": objective(self.embeddings(spectrum), targets, weights).mean()}


def dominant_talker(sources: Tensor) -> Tensor:
    """The ideal binary masks of sources' spectra (B, S, K, F), as rows (B, F * K, S): 1 for the loudest talker."""
    return F.one_hot(sources.abs().argmax(1), sources.shape[1]).permute(0, 2, 1, 3).flatten(1, 2).to(sources.real.dtype)


def loud_bins(spectrum: Tensor, threshold_db: float) -> Tensor:
    """Mark the bins of a spectrum (B, K, F) that are not fainter than ``threshold_db`` below its loudest: (B, K, F)."""
    magnitude = spectrum.abs()
    return magnitude >= 10 ** (threshold_db / 20) * magnitude.amax((1, 2), keepdim=True)


def affinity_loss(embeddings: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    r"""How far the embeddings' affinities are from those of the talkers, without forming either matrix.

    .. math:: \|V V^T - Y Y^T\|_F^2 = \|V^T V\|_F^2 - 2 \|V^T Y\|_F^2 + \|Y^T Y\|_F^2

    as a mean over the pairs of bins, each with the product of its bins' weights: between 0 and about 1. Shapes:
    ``embeddings`` V (batch, N, D) of unit length, ``targets`` Y (batch, N, S) one-hot, ``weights`` (batch, N), bool or
    not negative; the result is (batch,). Memory is D * (D + S) numbers instead of N * N. Source: Hershey et al. 2016.

    >>> import torch
    >>> talkers = torch.eye(2)[torch.tensor([[0, 0, 1]])]
    >>> affinity_loss(talkers.flip(-1), talkers, torch.ones(1, 3)).tolist()
    [0.0]
    """
    weights = weights.to(embeddings.dtype)
    share = (weights / weights.sum(1, keepdim=True).clamp(min=1e-8)).sqrt()[..., None]
    v, y = embeddings * share, targets * share
    transposed = v.transpose(1, 2)
    return (
        (transposed @ v).square().sum((1, 2))
        - 2 * (transposed @ y).square().sum((1, 2))
        + (y.transpose(1, 2) @ y).square().sum((1, 2))
    )


def whitened_loss(embeddings: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    r"""How much of the embeddings' variety lies within talkers rather than between them.

    .. math:: D - \mathrm{tr}\left((V^T V)^{-1} V^T Y (Y^T Y)^{-1} Y^T V\right)

    with the rows of V and Y times the roots of their weights: the squared error of k-means, once the embeddings are
    whitened, between about D - S and D. What else the vectors tell apart it leaves alone, and k-means may follow that.
    Shapes: ``embeddings`` V (batch, N, D), ``targets`` Y (batch, N, S) one-hot, ``weights`` (batch, N), bool or not
    negative; the result is (batch,). Source: Z.-Q. Wang, J. Le Roux, J. R. Hershey,
    "Alternative objective functions for deep clustering", ICASSP 2018, L_DC,W.
    """
    num_dimensions = embeddings.shape[-1]
    weights = weights.to(embeddings.dtype)
    share = (weights / weights.sum(1, keepdim=True).clamp(min=1e-8)).sqrt()[..., None]
    v, y = embeddings * share, targets * share
    transposed = v.transpose(1, 2)
    # A little of the identity keeps embeddings that lie in a plane, and talkers without a bin, from dividing by zero.
    within = transposed @ v + 1e-5 * torch.eye(num_dimensions, device=v.device)
    between = transposed @ y
    counts = y.square().sum(1, keepdim=True) + 1e-5
    explained = (torch.linalg.solve(within, between) * between / counts).sum((1, 2))
    loss: Tensor = num_dimensions - explained
    return loss
