"""Magnitude masks by a deep (recurrent) network: the mixture's spectrum softly shared out, its phase kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.metrics.pit import pit_pairwise
from auriscope.nn.masks import choice, run_recurrent
from auriscope.separation.spectral import SpectralModel, log_magnitude, rms_level
from auriscope.training.task import Batch


@dataclass(frozen=True)
class MaskDNNConfig:
    """The configuration of :class:`MaskDNN`; the defaults are a recurrent network of the paper's size.

    ``window_length`` and ``hop_length`` are in samples. ``features`` are the ``"magnitude"`` of the spectrum or its
    ``"log"``, of ``context_frames`` (odd) frames around each. Of the ``num_layers`` hidden layers those numbered in
    ``recurrent_layers``, from 1, have a recurrence: none make a plain DNN, one the paper's DRNN, all of them a stacked
    RNN. ``cell`` is ``"rnn"`` (ReLU), ``"gru"`` or ``"lstm"``; the layers are ``bidirectional`` or see the past only.
    ``discrimination`` is gamma of the training objective.
    """

    sample_rate: int = 16_000
    num_sources: int = 2
    window_length: int = 1024
    hop_length: int = 512
    features: str = "magnitude"
    context_frames: int = 3
    hidden_size: int = 150
    num_layers: int = 2
    recurrent_layers: tuple[int, ...] = (2,)
    cell: str = "rnn"
    bidirectional: bool = False
    discrimination: float = 0.05

    def __post_init__(self) -> None:
        choice(self.features, ("magnitude", "log"), "features")
        choice(self.cell, ("rnn", "gru", "lstm"), "cell")
        if self.context_frames < 1 or self.context_frames % 2 == 0:
            raise ValueError("context_frames must be odd")
        if any(not 1 <= number <= self.num_layers for number in self.recurrent_layers):
            raise ValueError(f"recurrent_layers must lie between 1 and num_layers ({self.num_layers})")


class MaskDNN(SpectralModel, name="separation/maskdnn"):
    """Huang's network: hidden layers, then a masking layer that is trained jointly with them.

    P.-S. Huang, M. Kim, M. Hasegawa-Johnson, P. Smaragdis, "Deep learning for monaural speech separation", ICASSP 2014;
    the recurrent networks are named as in the same authors' "Joint optimization of masks and deep recurrent neural
    networks for monaural source separation" (arXiv 1502.04149). From their published code
    (https://github.com/posenhuang/deeplearningsourceseparation) are windows of 64 ms that overlap by half (their sine
    is the square root of a Hann window), magnitudes as features, ReLU, linear outputs whose absolute values are shared
    out, the recurrence of the upper layer, gamma = 0.05 and the objective, there half the sum where here it is the
    mean. Sizes differ there from experiment to experiment: 100 units in two layers for TIMIT, 300 for TSP, 1,000 in
    three and 3 frames of context for music.

    The paper separates one known man from one known woman of TIMIT, so there is no published figure for WSJ0-2Mix, and
    it states no number of parameters (0.43 M here). It has an output for each of the two identities; for talkers
    without identity the training here adds PIT: the objective of the best assignment counts. Chosen here: what lies
    beyond the ends of a recording is silence where it is context (their code repeats the frames at the ends), a
    recurrent layer has torch's two biases where one would do, and the masks begin about even.
    """

    Config = MaskDNNConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "window_length": 64,
        "hop_length": 32,
        "hidden_size": 32,
        "context_frames": 3,
    }
    num_stages: ClassVar[int] = 1

    def __init__(self, config: MaskDNNConfig) -> None:
        super().__init__(config)
        num_bins = self.stft.num_frequencies
        width = num_bins * config.context_frames
        self.layers = nn.ModuleList()
        for number in range(1, config.num_layers + 1):
            if number in config.recurrent_layers:
                self.layers.append(_recurrence(config, width))
                width = config.hidden_size * (2 if config.bidirectional else 1)
            else:
                self.layers.append(nn.Sequential(nn.Linear(width, config.hidden_size), nn.ReLU()))
                width = config.hidden_size
        self.output = nn.Linear(width, config.num_sources * num_bins)
        with torch.no_grad():
            # The first masks share the mixture out about evenly.
            self.output.weight.mul_(0.3)
            self.output.bias.fill_(1)

    def masks(self, spectrum: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Soft masks (B, S, K, F), which sum to one, for a spectrum (B, K, F)."""
        x = with_context(spectrum.abs().transpose(1, 2), self.config.context_frames)
        if self.config.features == "log":
            x = log_magnitude(x.transpose(1, 2))
        for layer in self.layers:
            x = run_recurrent(layer, x, frame_lengths) if isinstance(layer, nn.RNNBase) else layer(x)
        # The masking layer: the outputs are the talkers' magnitudes, the masks their shares of the sum.
        shares = self.output(x).float().abs().unflatten(-1, (self.config.num_sources, -1)) + 1e-6
        masks: Tensor = shares / shares.sum(2, keepdim=True)
        return masks.permute(0, 2, 3, 1)

    def losses(self, batch: Batch, stage: int = 0) -> dict[str, Tensor]:  # noqa: ARG002
        """The discriminative objective of the masked magnitudes, under the best assignment of estimates to talkers."""
        level = rms_level(batch["mixture"])
        spectrum = self.transform(batch["mixture"] / level)
        references = self.transform(batch["sources"] / level[:, None]).abs()
        estimates = self.masks(spectrum) * spectrum.abs()[:, None]
        return {"loss": discriminative_loss(estimates, references, self.config.discrimination).mean()}


def discriminative_loss(estimates: Tensor, references: Tensor, discrimination: float) -> Tensor:
    r"""Squared error of magnitudes, less a share of how far each estimate is from the other talkers.

    .. math:: \sum_c \|\hat y_c - y_c\|^2 - \frac{\gamma}{S - 1} \sum_{d \ne c} \|\hat y_c - y_d\|^2

    as a mean over bins and frames, for the assignment of estimates to references that makes it least. Shapes:
    ``estimates`` and ``references`` (batch, S, frequencies, frames); the result is (batch,). Source: the
    discriminative training of Huang et al. 2014, there for two talkers in fixed places.

    >>> import torch
    >>> talkers = torch.tensor([[[[1.0]], [[3.0]]]])
    >>> discriminative_loss(talkers.flip(1), talkers, 0.05).item()
    -0.4000000059604645
    """
    errors = (estimates.unsqueeze(2) - references.unsqueeze(1)).square().mean((-2, -1))
    # The errors against the other talkers are all errors less the matched ones, so the best assignment is that of the
    # least matched error, whatever gamma is.
    matched = pit_pairwise(errors, maximize=False).values.sum(-1)
    share = discrimination / max(1, errors.shape[1] - 1)
    return (1 + share) * matched - share * errors.sum((1, 2))


def with_context(features: Tensor, num_frames: int) -> Tensor:
    """Put beside each frame of features (B, F, C) its neighbours, (B, F, num_frames * C), from the past to the future.

    Beyond the ends there are zeros.
    """
    reach = num_frames // 2
    if reach == 0:
        return features
    return F.pad(features, (0, 0, reach, reach)).unfold(1, num_frames, 1).transpose(2, 3).flatten(2)


def _recurrence(config: MaskDNNConfig, width: int) -> nn.RNNBase:
    options: dict[str, Any] = {"batch_first": True, "bidirectional": config.bidirectional}
    if config.cell == "rnn":
        return nn.RNN(width, config.hidden_size, nonlinearity="relu", **options)
    if config.cell == "gru":
        return nn.GRU(width, config.hidden_size, **options)
    return nn.LSTM(width, config.hidden_size, **options)
