"""Stems, such as bass and vocals: each source has its place, and a recording's channels are separated one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from auriscope.separation.long import Separator
from auriscope.signal.chunking import chunk, overlap_add


def separate_stems(
    mixture: Tensor, separator: Separator, *, chunk_seconds: float = 10.0, overlap_seconds: float = 1.0
) -> Tensor:
    """Separate a recording of any length whose sources have their places, so that chunks need no joining.

    ``mixture`` is (channels, time) at the model's rate; the result is (sources, channels, time). Chunks overlap and are
    cross-faded. No level is changed.
    """
    rate = int(separator.config.sample_rate)
    num_frames = mixture.shape[-1]
    size = min(round(chunk_seconds * rate), num_frames)
    hop = max(1, size - min(round(overlap_seconds * rate), size // 2))
    pieces = chunk(mixture[None], size, hop)[0]
    device = getattr(separator, "device", None)
    separated = []
    with torch.inference_mode():
        # A chunk at a time, all channels together: songs are long and networks for them are large.
        for number in range(pieces.shape[1]):
            estimates = separator(pieces[:, number].contiguous().to(device))
            separated.append(estimates.float().cpu())
    stacked = torch.stack(separated, dim=2)
    joined = overlap_add(stacked, hop, num_frames)
    return joined.transpose(0, 1)


def absolute_objective(
    estimates: Tensor, sources: Tensor, *, window_length: int = 2048, hop_length: int = 512
) -> Tensor:
    """Mean absolute error of waveforms and of the real and imaginary parts of their STFT, a scalar.

    Shapes: both (batch, sources, time). Y. Luo and J. Yu, "Music source separation with band-split RNN" (arXiv
    2209.15174), equation 1, with the windows of its section IV.A; how its transform is scaled it does not say, ours
    keeps the energy. Unlike a ratio it is defined for silent stems.
    """
    difference = (estimates - sources).float()
    window = torch.hann_window(window_length, device=difference.device)
    spectrum = torch.stft(
        difference.flatten(0, -2), window_length, hop_length, window=window, return_complex=True, normalized=True
    )
    # The transform is linear: the spectrum of the difference is the difference of the spectra.
    return difference.abs().mean() + spectrum.real.abs().mean() + spectrum.imag.abs().mean()
