"""What the separators that mask the mixture's spectrum share: analysis and synthesis around a masker, and its features.

Shapes use B batch, S sources, K frequencies and F frames; spectra are (B, …, K, F) as in :mod:`auriscope.signal.stft`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask, run_recurrent
from auriscope.pretrained.model import Model
from auriscope.signal.stft import STFT


class SpectralModel(Model):
    """A separator that multiplies the mixture's spectrum by one mask per source.

    A system gives :meth:`masks`. The transform has a square-root Hann window for analysis and synthesis, and stays in
    single precision whatever the precision around it. Recordings are brought to an RMS level of one before it and back
    after it, so that a system separates a quiet recording as a loud one; spectra are scaled such that the bins of white
    noise of that level have a mean square of one.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.stft = STFT(config.window_length, config.hop_length, window="sqrt_hann")
        self.scale = (2 / config.window_length) ** 0.5
        # So many zeros after the end that every frame that sees a sample is there, however the recording is padded.
        self.num_extra = max(0, config.window_length // 2 - config.hop_length)

    def masks(self, spectrum: Tensor, frame_lengths: Tensor | None) -> Tensor:
        """Masks (B, S, K, F), real or complex, for the spectrum (B, K, F) of a mixture of level one."""
        raise NotImplementedError

    def transform(self, waveform: Tensor) -> Tensor:
        """The spectrum (…, K, F) of a waveform (…, time)."""
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum: Tensor = self.scale * self.stft(F.pad(waveform.float(), (0, self.num_extra)))
            return spectrum

    def inverse(self, spectrum: Tensor, num_samples: int) -> Tensor:
        """The waveform (…, num_samples) of a spectrum (…, K, F)."""
        with torch.autocast(spectrum.device.type, enabled=False):
            return self.stft.inverse(spectrum / self.scale, num_samples)

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (B, time) in [-1, 1] into estimates (B, S, time).

        ``lengths`` (B,) are the valid samples of each example: what lies after them is taken as silence, leaves the
        valid samples as they are, and comes out as zeros. Without ``lengths``, all samples are valid.
        """
        num_samples = mixture.shape[-1]
        frame_lengths = None
        if lengths is not None:
            valid = length_mask(lengths, num_samples)
            mixture = mixture.masked_fill(~valid, 0)
            frame_lengths = self.stft.frame_lengths(lengths + self.num_extra)
        level = rms_level(mixture, lengths)
        spectrum = self.transform(mixture / level)
        masked = self.masks(spectrum, frame_lengths) * spectrum[:, None]
        if frame_lengths is not None:
            masked = masked * length_mask(frame_lengths, masked.shape[-1])[:, None, None]
        estimates = (self.inverse(masked, num_samples) * level[:, None]).to(mixture.dtype)
        return estimates if lengths is None else estimates * valid[:, None]


def rms_level(mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The RMS level (B, 1) of the valid samples of a mixture (B, time) that is zero elsewhere; never zero."""
    count = mixture.shape[-1] if lengths is None else lengths[:, None].clamp(min=1)
    level: Tensor = (mixture.float().square().sum(-1, keepdim=True) / count).sqrt() + 1e-6
    return level


def log_magnitude(spectrum: Tensor) -> Tensor:
    """The log magnitude of a complex or real spectrum (…, K, F) as features of about unit size, (…, F, K).

    What is 60 dB below white noise of level one, or fainter, counts as silence.
    """
    return spectrum.abs().clamp(min=1e-3).log().transpose(-1, -2) / 3


class RecurrentStack(nn.Module):
    """Layers of LSTM, bidirectional, over features (B, F, C); dropout between the layers and after the last."""

    def __init__(self, num_in: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.num_out = 2 * hidden_size
        self.network = nn.LSTM(
            num_in,
            hidden_size,
            num_layers,
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=True,
            batch_first=True,
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Features (B, F, C) to (B, F, 2 * hidden_size); ``frame_lengths`` (B,) are the valid frames."""
        output: Tensor = self.dropout(run_recurrent(self.network, features, frame_lengths))
        return output
