"""Features of speech as layers of a network: log-mel, normalised over each recording."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from auriscope.signal.mel import mel_filterbank
from auriscope.signal.stft import make_window, stft


class LogMel(nn.Module):
    """Log-mel features of a padded batch, in which padding changes nothing.

    Waveforms (batch, time) in [-1, 1] give features (batch, frames, num_mels) and ``frame_lengths`` (batch,); frames
    are 1 + length // hop_length. Natural logarithms of Slaney mel powers; what lies behind the end is zeros.
    ``normalize`` takes each recording's mean off every mel and divides by the recording's standard deviation over all
    mels, so that neither level nor microphone colours them.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int = 16_000,
        num_mels: int = 80,
        *,
        window_length: int = 400,
        hop_length: int = 160,
        fft_length: int = 512,
        min_hz: float = 20.0,
        floor: float = 1e-10,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.hop_length, self.fft_length, self.floor, self.normalize = hop_length, fft_length, floor, normalize
        self.register_buffer("window", make_window("hann", window_length), persistent=False)
        filters = mel_filterbank(sample_rate, fft_length, num_mels, min_hz=min_hz).T.contiguous()
        self.register_buffer("filters", filters, persistent=False)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames (batch,) of recordings of so many samples."""
        return 1 + lengths // self.hop_length

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute features (batch, frames, num_mels) and frame lengths (batch,)."""
        batch, time = waveform.shape
        if lengths is None:
            lengths = waveform.new_full((batch,), time, dtype=torch.int64)
        waveform = waveform * (torch.arange(time, device=waveform.device) < lengths[:, None])
        frame_lengths = self.frame_lengths(lengths)
        spectrum = stft(waveform.float(), self.window, self.hop_length, fft_length=self.fft_length)
        power = spectrum[..., : 1 + time // self.hop_length].abs().square().mT
        features = (power @ self.filters).clamp_min(self.floor).log()
        valid = (torch.arange(features.shape[1], device=features.device) < frame_lengths[:, None])[..., None]
        if self.normalize:
            number = frame_lengths[:, None, None].to(features)
            mean = (features * valid).sum(1, keepdim=True) / number
            features = features - mean
            variance = (features.square() * valid).sum((1, 2), keepdim=True) / (number * features.shape[-1])
            features = features / (variance + 1e-5).sqrt()
        return features * valid, frame_lengths


def spec_augment(
    features: Tensor,
    frame_lengths: Tensor,
    *,
    num_mel_masks: int = 2,
    max_mel_width: int = 20,
    num_time_masks: int = 2,
    max_time_width: int = 40,
    max_time_share: float = 0.2,
    generator: Any = None,
) -> Tensor:
    """Blank random bands of mels and stretches of time of features (batch, frames, num_mels), with zeros.

    Widths are uniform from 0 to their maxima, a stretch being at most ``max_time_share`` of its recording; every
    recording has its own. Park et al., SpecAugment (arXiv 1904.08779), section 2, without time warping.
    """
    batch, frames, num_mels = features.shape
    mels = torch.arange(num_mels, device=features.device)
    moments = torch.arange(frames, device=features.device)
    keep = features.new_ones(batch, frames, num_mels, dtype=torch.bool)
    for draws, size, positions, widest in (
        (num_mel_masks, torch.full((batch,), num_mels), mels, torch.full((batch,), max_mel_width)),
        (num_time_masks, frame_lengths.cpu(), moments, (max_time_share * frame_lengths.cpu()).clamp(max=max_time_width)),
    ):
        for _ in range(draws):
            width = (torch.rand(batch, generator=generator) * (widest + 1)).floor().clamp(max=size)
            begin = (torch.rand(batch, generator=generator) * (size - width + 1)).floor()
            begin, end = (edge.to(features.device)[:, None] for edge in (begin, begin + width))
            masked = (positions >= begin) & (positions < end)
            keep &= ~(masked[:, None, :] if positions is mels else masked[:, :, None])
    return features * keep
