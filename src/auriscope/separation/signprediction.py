"""Sign prediction: phases from magnitudes by trigonometry, up to a sign, and a network that predicts the sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.metrics.pit import permute, pit_pairwise, pit_si_snr
from auriscope.metrics.ratios import is_silent
from auriscope.nn.masks import choice
from auriscope.separation.deepclustering import dominant_talker, whitened_loss
from auriscope.separation.spectral import RecurrentStack, SpectralModel, log_magnitude, rms_level
from auriscope.training.task import Batch


@dataclass(frozen=True)
class SignPredictionConfig:
    """The configuration of :class:`SignPredictionNet`; the defaults make up the paper's size.

    ``window_length`` and ``hop_length`` are in samples; sizes of hidden layers are those of one direction.
    ``max_mask`` bounds the magnitudes, as a multiple of the mixture's. ``clustering_weight`` is the share of deep
    clustering (with vectors of ``embedding_size``) in the loss of the first stage. ``waveform_loss`` is that of the
    second: ``"l1"`` or ``"si_snr"``.
    """

    sample_rate: int = 8000
    num_sources: int = 2
    window_length: int = 256
    hop_length: int = 64
    hidden_size: int = 600
    num_layers: int = 4
    embedding_size: int = 20
    sign_hidden_size: int = 600
    sign_num_layers: int = 3
    dropout: float = 0.3
    max_mask: float = 2.0
    clustering_weight: float = 0.975
    waveform_loss: str = "l1"

    def __post_init__(self) -> None:
        choice(self.waveform_loss, ("l1", "si_snr"), "waveform_loss")
        if self.num_sources < 2:
            raise ValueError("num_sources must be at least 2: the triangle has a side for the other talkers")
        if not 0 <= self.clustering_weight <= 1:
            raise ValueError("clustering_weight must lie between 0 and 1")
        if self.max_mask <= 1:
            raise ValueError("max_mask must be greater than 1")


class SignPredictionNet(SpectralModel, name="separation/signprediction"):
    """Magnitudes by a chimera++ network, phases by the law of cosines and a second network that predicts the sign.

    Z.-Q. Wang, K. Tan, D. Wang, "Deep learning based phase reconstruction for speaker separation: a trigonometric
    perspective", ICASSP 2019, arXiv 1811.09010. The magnitude network: Z.-Q. Wang, J. Le Roux, J. R. Hershey,
    "Alternative objective functions for deep clustering", ICASSP 2018 (chimera++).

    Made after the principle that the abstract states and the published sizes; the details of both networks, of their
    inputs and of the training are ours.

    Published: SI-SNRi 15.3 dB, SDRi 15.6 dB on WSJ0-2Mix; 55.2 M parameters. The default configuration has 56.9 M:
    chimera++ with its published 32.9 M, and a sign network of three layers of 600 whose input we chose (logarithms of
    the talkers' magnitudes and the mixture's phase differences along time and frequency), which makes the
    difference. A deep-clustering head shares the first network's recurrence; it only helps to train it.

    In a bin, mixture, talker and the sum of the others are the sides of a triangle, so their magnitudes give the angle
    between talker and mixture, but for its sign; of two talkers, one is ahead of the mixture as the other is behind.
    The predicted sign lies between -1 and 1: an unsure network falls back on the mixture's phase, with the magnitude's
    share that is certain. For more than two talkers the first network estimates the magnitude of the others' sum too.

    Stage 0 trains the magnitudes (L1, PIT) with deep clustering, stage 1 everything on the waveforms.
    """

    Config = SignPredictionConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "window_length": 64,
        "hop_length": 32,
        "hidden_size": 16,
        "num_layers": 2,
        "embedding_size": 4,
        "sign_hidden_size": 12,
        "sign_num_layers": 1,
        "dropout": 0.0,
    }
    Published: ClassVar[dict[str, float]] = {
        "SI-SNRi on WSJ0-2Mix (dB)": 15.3,
        "SDRi on WSJ0-2Mix (dB)": 15.6,
        "parameters (million)": 55.2,
    }
    num_stages: ClassVar[int] = 2

    def __init__(self, config: SignPredictionConfig) -> None:
        super().__init__(config)
        num_bins = self.stft.num_frequencies
        # Of two talkers, each is the other's "others", and their signs are opposite.
        pair = config.num_sources == 2
        self.num_magnitudes = 2 if pair else 2 * config.num_sources
        num_signs = 1 if pair else config.num_sources
        self.magnitude_recurrence = RecurrentStack(num_bins, config.hidden_size, config.num_layers, config.dropout)
        self.to_embeddings = nn.Linear(self.magnitude_recurrence.num_out, num_bins * config.embedding_size)
        self.to_magnitudes = nn.Linear(self.magnitude_recurrence.num_out, num_bins * self.num_magnitudes)
        self.sign_recurrence = RecurrentStack(
            num_bins * (self.num_magnitudes + 4), config.sign_hidden_size, config.sign_num_layers, config.dropout
        )
        self.to_signs = nn.Linear(self.sign_recurrence.num_out, num_bins * num_signs)
        with torch.no_grad():
            # Talkers of equal power and unrelated phase: 0.7 of the mixture's magnitude each. With signs of about
            # nothing, the first estimates are then about half the mixture.
            self.to_magnitudes.weight.mul_(0.3)
            start = torch.tensor(0.5**0.5 / config.max_mask)
            self.to_magnitudes.bias.fill_(float(torch.logit(start)))
            self.to_signs.weight.mul_(0.3)
            self.to_signs.bias.zero_()

    def magnitude_masks(self, hidden: Tensor) -> Tensor:
        """Magnitudes of talkers, then of the others' sums, as multiples of the mixture's: (B, num_magnitudes, K, F)."""
        masks = self.config.max_mask * torch.sigmoid(self.to_magnitudes(hidden).float())
        return _by_source(masks, self.num_magnitudes)

    def masks(self, spectrum: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Complex masks (B, S, K, F) of a spectrum (B, K, F)."""
        num_sources = self.config.num_sources
        hidden = self.magnitude_recurrence(log_magnitude(spectrum), frame_lengths)
        magnitudes = self.magnitude_masks(hidden)
        features = [log_magnitude(magnitudes * spectrum.abs()[:, None]).transpose(1, 2).flatten(2)]
        features.append(phase_differences(spectrum, self.config.window_length, self.config.hop_length))
        x = self.sign_recurrence(torch.cat(features, -1), frame_lengths)
        signs = torch.tanh(self.to_signs(x).float())
        if num_sources == 2:
            sign = _by_source(signs, 1)
            return triangle_masks(magnitudes, magnitudes.flip(1), torch.cat([sign, -sign], 1))
        return triangle_masks(magnitudes[:, :num_sources], magnitudes[:, num_sources:], _by_source(signs, num_sources))

    def losses(self, batch: Batch, stage: int) -> dict[str, Tensor]:
        """Stage 0: magnitudes and deep clustering; stage 1: waveforms. Both under the best permutation."""
        level = rms_level(batch["mixture"])
        mixture, sources = batch["mixture"] / level, batch["sources"] / level[:, None]
        if stage == 0:
            return self._magnitude_losses(self.transform(mixture), self.transform(sources))
        estimates = self(mixture).float()
        if self.config.waveform_loss == "l1":
            errors = (estimates.unsqueeze(2) - sources.unsqueeze(1)).abs().mean(-1)
            return {"loss": pit_pairwise(errors, maximize=False).values.mean()}
        return {"loss": -pit_si_snr(estimates, sources).values[~is_silent(sources)].mean()}

    def _magnitude_losses(self, mixture: Tensor, sources: Tensor) -> dict[str, Tensor]:
        hidden = self.magnitude_recurrence(log_magnitude(mixture))
        vectors = self.to_embeddings(hidden).float().sigmoid()
        vectors = F.normalize(vectors.view(len(vectors), -1, self.config.embedding_size), dim=-1)
        loudness = mixture.abs()
        clustering = whitened_loss(vectors, dominant_talker(sources), loudness.transpose(1, 2).flatten(1)).mean()
        estimates = self.magnitude_masks(hidden) * loudness[:, None]
        # No further than the masks reach.
        limit = self.config.max_mask * loudness[:, None]
        references = torch.minimum(sources.abs(), limit)
        num_sources = self.config.num_sources
        errors = (estimates[:, :num_sources].unsqueeze(2) - references.unsqueeze(1)).abs().mean((-2, -1))
        matched = pit_pairwise(errors, maximize=False)
        error = matched.values.mean()
        if num_sources > 2:
            others = torch.minimum((sources.sum(1, keepdim=True) - sources).abs(), limit)
            error = error + (permute(estimates[:, num_sources:], matched.permutation) - others).abs().mean()
        weight = self.config.clustering_weight
        loss = weight * clustering + (1 - weight) * error
        return {"loss": loss, "clustering_loss": clustering, "magnitude_error": error}


def triangle_masks(magnitudes: Tensor, others: Tensor, signs: Tensor) -> Tensor:
    r"""Complex masks from the sides of the triangle of mixture, talker and the others' sum.

    With the talker's magnitude :math:`m` and the others' :math:`r`, both as multiples of the mixture's, the law of
    cosines gives the part of the talker that is in phase with the mixture, :math:`m \cos\delta = (1 + m^2 - r^2) / 2`,
    and up to a sign the part at a right angle to it, :math:`m \sin\delta`. Sides that make no triangle are taken to
    lie on a line. Shapes: all (B, S, K, F), ``signs`` between -1 and 1; the result is complex.

    >>> import torch
    >>> one = torch.ones(1, 1, 1, 1)
    >>> mask = triangle_masks(0.6 * one, 0.8 * one, -one)  # a right angle between the talkers
    >>> torch.view_as_real(100 * mask).round().flatten().tolist()
    [36.0, -48.0]
    """
    along = (1 + magnitudes.square() - others.square()) / 2
    along = torch.minimum(torch.maximum(along, -magnitudes), magnitudes)
    # Beneath the root, zero would have no gradient.
    across = (magnitudes.square() - along.square()).clamp(min=1e-8).sqrt()
    return torch.complex(along, signs * across)


def phase_differences(spectrum: Tensor, window_length: int, hop_length: int) -> Tensor:
    """How the phase of a spectrum (B, K, F) turns from frame to frame and from bin to bin: features (B, F, 4 * K).

    Cosines and sines of the instantaneous frequency, less that of the middle of the bin, and of the group delay, from
    the middle of the window; near silence they are smaller, as they mean little there.
    """
    num_bins = spectrum.shape[1]
    bins = torch.arange(num_bins, device=spectrum.device)
    advance = torch.polar(
        torch.ones(num_bins, device=spectrum.device), 2 * torch.pi * bins * hop_length / window_length
    )
    turned = F.pad(spectrum[..., 1:] * spectrum[..., :-1].conj(), (1, 0)) * advance.conj()[:, None]
    # Half a window's delay turns the phase by pi from bin to bin.
    delay = -F.pad(spectrum[:, 1:] * spectrum[:, :-1].conj(), (0, 0, 1, 0))
    features = [part / (part.abs() + 1e-2) for part in (turned, delay)]
    return torch.cat([torch.view_as_real(feature) for feature in features], -1).transpose(1, 2).flatten(2)


def _by_source(outputs: Tensor, num_outputs: int) -> Tensor:
    """From (B, F, num_outputs * K) to (B, num_outputs, K, F)."""
    return outputs.view(*outputs.shape[:2], num_outputs, -1).permute(0, 2, 3, 1)
