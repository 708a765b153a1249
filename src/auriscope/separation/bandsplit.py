"""Band-split RNN: recurrence over time within every band, mixing across bands, complex masks on the STFT.

After Y. Luo and J. Yu, "Music source separation with band-split RNN" (arXiv 2209.15174): section 2.1 splits the
spectrogram into bands, each with its own projection to a common dimension; section 2.2 interleaves a model across time
with one across bands; section 2.3 estimates one complex mask per band. Here for talkers instead of instruments, with
permutation-invariant training, and made for two CPU cores: 60 frames a second instead of a thousand or more, and,
with ``band_path = "mixing"``, a small perceptron over the (few, fixed) bands in the place of the paper's LSTM.

Published for music only (MUSDB18); for two talkers there is no figure to compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice, length_mask
from auriscope.pretrained.model import Model
from auriscope.separation.spectral import rms_level
from auriscope.signal.stft import STFT


@dataclass(frozen=True)
class BandSplitConfig:
    """The configuration of :class:`BandSplitRNN`.

    Args:
        sample_rate: in hertz.
        num_sources: talkers.
        window_length: of the square-root Hann window in samples; frames overlap by half.
        bands: pairs of (bins per band, number of such bands) from 0 Hz up; what is left goes to the last band.
        num_channels: dimension of a band's frame.
        num_hidden: units of the recurrence over time in each direction.
        num_blocks: pairs of a time path and a band path.
        band_path: "recurrent" (a BLSTM over the bands, as in the paper) or "mixing".
        dropout: of each path's update, in training.
    """

    sample_rate: int = 16_000
    num_sources: int = 2
    window_length: int = 512
    bands: tuple[tuple[int, int], ...] = ((4, 8), (8, 8), (16, 6), (32, 2))
    num_channels: int = 64
    num_hidden: int = 64
    num_blocks: int = 4
    band_path: Literal["recurrent", "mixing"] = "recurrent"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple((int(width), int(count)) for width, count in self.bands))
        choice(self.band_path, ("recurrent", "mixing"), "band_path")
        left = self.window_length // 2 + 1 - sum(width * count for width, count in self.bands)
        if left < 0:
            raise ValueError(f"the bands have {-left} bins more than the spectrum of {self.window_length} samples")

    @property
    def band_widths(self) -> tuple[int, ...]:
        """Bins of every band; together they are the whole spectrum."""
        widths = [width for width, count in self.bands for _ in range(count)]
        widths[-1] += self.window_length // 2 + 1 - sum(widths)
        return tuple(widths)


class BandSplitRNN(Model, name="separation/bandsplit"):
    """Separate a mixture (batch, time) into estimates (batch, sources, time); see the module."""

    Config = BandSplitConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "window_length": 64,
        "bands": ((4, 4), (8, 2)),
        "num_channels": 16,
        "num_hidden": 16,
        "num_blocks": 2,
    }

    band_bins: Tensor
    band_mask: Tensor
    bin_places: Tensor

    def __init__(self, config: BandSplitConfig) -> None:
        super().__init__(config)
        widths, channels = config.band_widths, config.num_channels
        self.num_bands, self.max_width = len(widths), max(widths)
        self.stft = STFT(config.window_length, config.window_length // 2, window="sqrt_hann")
        bins, places, start = torch.zeros(len(widths), max(widths), dtype=torch.long), [], 0
        mask = torch.zeros(len(widths), max(widths))
        for band, width in enumerate(widths):
            bins[band, :width] = torch.arange(start, start + width)
            mask[band, :width] = 1
            places.append(torch.arange(width) + band * max(widths))
            start += width
        # Bands are padded to the widest, so that all go through one batched product.
        self.register_buffer("band_bins", bins, persistent=False)
        self.register_buffer("band_mask", mask, persistent=False)
        self.register_buffer("bin_places", torch.cat(places), persistent=False)

        self.split = BandLinear(len(widths), 3 * max(widths), channels)
        self.time_paths = nn.ModuleList(
            RecurrentPath(channels, config.num_hidden, config.dropout) for _ in range(config.num_blocks)
        )
        self.band_paths = nn.ModuleList(
            RecurrentPath(channels, config.num_hidden, config.dropout)
            if config.band_path == "recurrent"
            else MixingPath(len(widths), channels, config.dropout)
            for _ in range(config.num_blocks)
        )
        self.norm = nn.LayerNorm(channels)
        self.hidden = BandLinear(len(widths), channels, 2 * channels)
        self.mask = BandLinear(len(widths), 2 * channels, config.num_sources * 2 * max(widths))
        with torch.no_grad():
            # The first masks share the mixture out evenly: the loss then starts at 0 dB of improvement.
            self.mask.weight.mul_(0.3)
            self.mask.bias.view(len(widths), 1, config.num_sources, 2, -1)[:, :, :, 0] = 1 / config.num_sources

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (B, time) in [-1, 1] into estimates (B, S, time).

        ``lengths`` (B,) are the valid samples of each example: what lies after them is taken as silence, leaves the
        valid samples as they are, and comes out as zeros.
        """
        num_samples = mixture.shape[-1]
        frame_lengths = None
        if lengths is not None:
            valid = length_mask(lengths, num_samples)
            mixture = mixture * valid
            frame_lengths = self.stft.frame_lengths(lengths)
        level = rms_level(mixture, lengths)
        # The transforms stay in full precision, whatever the precision around them.
        with torch.autocast(mixture.device.type, enabled=False):
            spectrum = self.stft(mixture.float() / level)
        masks = self._masks(self._features(spectrum), frame_lengths)
        with torch.autocast(mixture.device.type, enabled=False):
            masked = torch.complex(masks[:, :, 0], masks[:, :, 1]) * spectrum[:, None]
            if frame_lengths is not None:
                masked = masked * length_mask(frame_lengths, masked.shape[-1])[:, None, None]
            estimates = self.stft.inverse(masked, num_samples) * level[:, None]
        estimates = estimates.to(mixture.dtype)
        return estimates if lengths is None else estimates * valid[:, None]

    def _features(self, spectrum: Tensor) -> Tensor:
        """Spectrum (B, bins, F) to compressed real and imaginary parts and log magnitude, (K, F, B, 3 * width)."""
        magnitude = spectrum.abs().clamp(min=1e-4)
        parts = torch.stack(
            (spectrum.real * magnitude.rsqrt(), spectrum.imag * magnitude.rsqrt(), 0.3 * magnitude.log()), dim=1
        )
        banded = parts[:, :, self.band_bins] * self.band_mask[:, :, None]
        return banded.permute(2, 4, 0, 1, 3).flatten(3)

    def _masks(self, features: Tensor, frame_lengths: Tensor | None) -> Tensor:
        """Features (K, F, B, 3 * width) to masks (B, S, 2, bins, F), real and imaginary."""
        num_bands, num_frames, batch, _ = features.shape
        hidden = self.split(features.flatten(1, 2)).view(num_bands, num_frames, batch, -1)
        for time_path, band_path in zip(self.time_paths, self.band_paths, strict=True):
            rows = hidden.transpose(0, 1).flatten(1, 2)
            row_lengths = None if frame_lengths is None else frame_lengths.repeat(num_bands)
            hidden = time_path(rows, row_lengths).view(num_frames, num_bands, batch, -1).transpose(0, 1)
            hidden = band_path(hidden.flatten(1, 2)).view(num_bands, num_frames, batch, -1)
        hidden = F.silu(self.hidden(self.norm(hidden).flatten(1, 2)))
        masks: Tensor = self.mask(hidden).float().view(num_bands, num_frames, batch, -1, 2, self.max_width)
        return masks.permute(2, 3, 4, 0, 5, 1).flatten(3, 4)[:, :, :, self.bin_places]


class BandLinear(nn.Module):
    """A linear layer of its own for every band: (K, rows, in) to (K, rows, out)."""

    def __init__(self, num_bands: int, num_in: int, num_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_bands, num_in, num_out) * num_in**-0.5)
        self.bias = nn.Parameter(torch.zeros(num_bands, 1, num_out))

    def forward(self, x: Tensor) -> Tensor:
        """Transform each band's rows."""
        return torch.baddbmm(self.bias, x, self.weight)


class RecurrentPath(nn.Module):
    """x + projection of a BLSTM of norm(x), along the first dimension of (steps, rows, C)."""

    def __init__(self, num_channels: int, num_hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_channels)
        self.rnn = nn.LSTM(num_channels, num_hidden, bidirectional=True)
        self.projection = nn.Linear(2 * num_hidden, num_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, row_lengths: Tensor | None = None) -> Tensor:
        """Update (steps, rows, C); ``row_lengths`` (rows,) are the valid steps of each row."""
        y = self.norm(x)
        if row_lengths is None:
            y, _ = self.rnn(y)
        else:
            packed = nn.utils.rnn.pack_padded_sequence(y, row_lengths.cpu(), enforce_sorted=False)
            y, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], total_length=x.shape[0])
        updated: Tensor = x + self.dropout(self.projection(y))
        return updated


class MixingPath(nn.Module):
    """Two perceptrons with residuals: across the K bands, channel by channel, then across the channels of each band.

    After I. Tolstikhin et al., "MLP-Mixer" (arXiv 2105.01601), section 2, with the bands as its patches.
    """

    def __init__(self, num_bands: int, num_channels: int, dropout: float, expansion: int = 3) -> None:
        super().__init__()
        self.band_norm = nn.LayerNorm(num_channels)
        self.before = nn.Linear(num_channels, num_channels)
        self.up = nn.Linear(num_bands, expansion * num_bands)
        self.down = nn.Linear(expansion * num_bands, num_bands)
        self.after = nn.Linear(num_channels, num_channels)
        self.channels = nn.Sequential(
            nn.LayerNorm(num_channels),
            nn.Linear(num_channels, 2 * num_channels),
            nn.SiLU(),
            nn.Linear(2 * num_channels, num_channels),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Update (K, rows, C)."""
        mixed = self.before(self.band_norm(x)).flatten(1)
        mixed = F.silu(torch.addmm(self.up.bias[:, None], self.up.weight, mixed))
        mixed = torch.addmm(self.down.bias[:, None], self.down.weight, mixed)
        x = x + self.dropout(self.after(mixed.view(x.shape)))
        updated: Tensor = x + self.dropout(self.channels(x))
        return updated
