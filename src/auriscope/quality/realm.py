"""The blind SI-SNR estimator of REAL-M, a time-domain network.

Subakan, Ravanelli, Cornell, Grondin: "REAL-M: Towards speech separation on real mixtures", ICASSP 2022, section 3.
Published: Pearson 0.80 on LibriMix and 0.81 on WHAMR! (0.82-0.85 and 0.84-0.87 when trained on several separators).
The layout and the published checkpoint's keys are those of SpeechBrain's recipe ``REAL-M/sisnr-estimation``, whose
files :mod:`auriscope.quality.interop` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from auriscope.pretrained.model import Model
from auriscope.quality.calibration import Calibration, Prediction, input_statistics


@dataclass(frozen=True)
class RealMConfig:
    """The published network; ``minimum_db`` and ``maximum_db`` are what its sigmoid's 0 and 1 stand for.

    ``margin_db`` is how far beyond them training targets go: not at all.
    """

    sample_rate: int = 8000
    num_channels: int = 128
    num_hidden: int = 256
    minimum_db: float = 0.0
    maximum_db: float = 10.0
    margin_db: float = 0.0
    window_seconds: float = 4.0


class _Convolution(nn.Module):
    """One strided convolution under the published key ``conv``."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(num_inputs, num_outputs, kernel_size=4, stride=stride)


class _Linear(nn.Module):
    """One linear layer under the published key ``w``."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.w = nn.Linear(num_inputs, num_outputs)


class RealMEstimator(Model, name="quality/sisnr-realm"):
    """Five convolutions over (estimate, mixture), statistics pooling, and an MLP with a sigmoid.

    Two things differ from the original's code, neither in the weights: the pooling adds no noise, and a batch of
    several mixtures pairs every estimate with its own mixture. Inputs shorter than the 65 samples that the
    convolutions need for two frames are padded with zeros.
    """

    Config = RealMConfig
    Tiny: ClassVar[dict[str, Any]] = {"num_channels": 16, "num_hidden": 16, "sample_rate": 8000}
    Published: ClassVar[dict[str, float]] = {"parameters of the convolutions": 263_808, "parameters of the MLP": 66_049}

    strides: ClassVar[tuple[int, ...]] = (1, 2, 2, 2, 2)

    def __init__(self, config: RealMConfig) -> None:
        super().__init__(config)
        self.sample_rate = config.sample_rate
        channels = config.num_channels
        for index, stride in enumerate(self.strides):
            self.add_module(f"cnn{index + 1}", _Convolution(channels if index else 2, channels, stride))
        self.layer1 = _Linear(2 * channels, config.num_hidden)
        self.layer2 = _Linear(config.num_hidden, 1)
        self.calibration = Calibration(config.num_hidden)

    def forward(self, mixture: Tensor, estimates: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Estimate the SI-SNR of every track: (batch, time), (batch, sources, time) -> (batch, sources) in dB.

        Scores lie strictly between ``minimum_db`` and ``maximum_db``. ``lengths`` (batch,) masks padding.
        """
        return self.distribution(mixture, estimates, lengths)[0]

    def distribution(
        self, mixture: Tensor, estimates: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score and Laplace scale (constant: 1 dB before calibration), both (batch, sources), and the embedding."""
        batch, num_sources, time = estimates.shape
        if lengths is None:
            lengths = torch.full((batch,), time, dtype=torch.int64, device=mixture.device)
        pairs = torch.stack([estimates, mixture[:, None].expand_as(estimates)], dim=2)
        valid = torch.arange(time, device=mixture.device) < lengths[:, None]
        pairs = _standardise(pairs, valid[:, None, None], lengths[:, None, None, None])
        hidden = pairs.flatten(0, 1)
        if time < 65:
            hidden = nn.functional.pad(hidden, (0, 65 - time))
        num_frames = lengths.clamp_min(65).repeat_interleave(num_sources)
        for index, stride in enumerate(self.strides):
            layer = self.get_submodule(f"cnn{index + 1}.conv")
            hidden = layer(torch.relu(hidden) if index else hidden)
            num_frames = (num_frames - 4) // stride + 1
        inside = torch.arange(hidden.shape[-1], device=hidden.device) < num_frames[:, None]
        count = num_frames[:, None].to(hidden.dtype)
        mean = (hidden * inside[:, None]).sum(-1) / count
        variance = ((hidden - mean[..., None]).square() * inside[:, None]).sum(-1) / (count - 1)
        # The floor changes no standard deviation that matters, and keeps the gradient of the root finite at zero.
        pooled = torch.cat([mean, variance.clamp_min(1e-12).sqrt() + 1e-5], dim=-1)
        embedding = torch.relu(self.layer1.w(pooled))
        span = self.config.maximum_db - self.config.minimum_db
        score = self.config.minimum_db + span * torch.sigmoid(self.layer2.w(embedding)[:, 0])
        score = score.reshape(batch, num_sources)
        return score, torch.ones_like(score), embedding.reshape(batch, num_sources, -1)

    @torch.no_grad()
    def predict(self, mixture: Tensor, estimates: Tensor, lengths: Tensor | None = None) -> Prediction:
        """Estimate with expected error and range flags; the score counts as outside within 0.5 dB of either end."""
        score, scale, embedding = self.distribution(mixture, estimates, lengths)
        if lengths is None:
            lengths = torch.full((len(mixture),), mixture.shape[-1], dtype=torch.int64, device=mixture.device)
        statistics = input_statistics(mixture, estimates, lengths, self.sample_rate)
        # A sigmoid never reaches its ends: close to them it only says "this or beyond".
        beyond = (score < self.config.minimum_db + 0.5) | (score > self.config.maximum_db - 0.5)
        outside = torch.cat([beyond[..., None], self.calibration.outside(embedding, statistics)], dim=-1)
        return Prediction(score, scale * self.calibration.error_factor.float(), outside)


def _standardise(signals: Tensor, valid: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit (unbiased) standard deviation within lengths, zero beyond; silence stays silence."""
    count = lengths.to(signals.dtype)
    signals = signals * valid
    centred = (signals - signals.sum(-1, keepdim=True) / count.clamp_min(1)) * valid
    variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp_min(1)
    return centred / variance.clamp_min(1e-16).sqrt()
