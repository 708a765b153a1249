"""The short-time Fourier transform and its exact inverse."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

WindowName = Literal["hann", "sqrt_hann", "hamming", "rectangular"]
PadMode = Literal["constant", "reflect"]


def make_window(name: WindowName, window_length: int) -> torch.Tensor:
    """Make a periodic window, (window_length,) float32."""
    if name == "hann":
        return torch.hann_window(window_length)
    if name == "sqrt_hann":
        return torch.hann_window(window_length).sqrt()
    if name == "hamming":
        return torch.hamming_window(window_length)
    if name == "rectangular":
        return torch.ones(window_length)
    raise ValueError(f"unknown window {name!r}: use hann, sqrt_hann, hamming or rectangular")


def num_stft_frames(num_frames: int, fft_length: int, hop_length: int, center: bool = True) -> int:
    """Say how many frames the STFT of ``num_frames`` samples has.

    Centred: 1 + ceil(time / hop), so that the last frame's middle is not before the end and every sample is covered
    from both sides. librosa and torch have 1 + floor(time / hop): the same, but for a last frame if hop does not
    divide time. Not centred: only whole frames, 1 + floor((time - fft) / hop).
    """
    if center:
        return 1 - (-num_frames // hop_length)
    return 1 + (num_frames - fft_length) // hop_length if num_frames >= fft_length else 0


def stft(
    waveform: torch.Tensor,
    window: torch.Tensor,
    hop_length: int,
    *,
    fft_length: int | None = None,
    center: bool = True,
    pad_mode: PadMode = "constant",
) -> torch.Tensor:
    """Transform signals to their complex spectra over time.

    Args:
        waveform: (..., time) float.
        window: (window_length,), set in the middle of the transform if that is longer.
        hop_length: step between frames in samples.
        fft_length: length of the transform, at least the window's; by default the window's.
        center: whether frame k has its middle at sample k * hop_length (the ends padded by half a transform) or starts
            there (nothing padded).
        pad_mode: with what to pad at the start: zeros, or the mirrored signal, which must then be longer than half a
            transform. What lies behind the last half transform is zeros.

    Returns:
        (..., fft_length // 2 + 1, frames) complex; ``num_stft_frames`` says how many frames.

    Raises:
        ValueError: if the window is longer than the transform, or an uncentred signal shorter than it.
    """
    fft_length, window = _fit_window(window, fft_length)
    time = waveform.shape[-1]
    frames = num_stft_frames(time, fft_length, hop_length, center)
    if frames == 0:
        raise ValueError(f"{time} samples are shorter than one frame of {fft_length}")
    if center:
        half = fft_length // 2
        total = (frames - 1) * hop_length + fft_length
        if pad_mode == "reflect":
            flat = nn.functional.pad(waveform.reshape(-1, time), (half, fft_length - half), mode="reflect")
            waveform = flat.reshape(*waveform.shape[:-1], flat.shape[-1])
            waveform = nn.functional.pad(waveform, (0, total - waveform.shape[-1]))
        else:
            waveform = nn.functional.pad(waveform, (half, total - half - time))
    spectrum: torch.Tensor = torch.fft.rfft(waveform.unfold(-1, fft_length, hop_length) * window.to(waveform))
    return spectrum.transpose(-1, -2)


def power_of(spectrum: torch.Tensor) -> torch.Tensor:
    """The squared magnitude of a complex spectrum, real and of its shape.

    Without the square root that ``abs().square()`` takes and undoes, several times faster, and smooth at 0.
    """
    return spectrum.real.square() + spectrum.imag.square()


def istft(
    spectrum: torch.Tensor,
    window: torch.Tensor,
    hop_length: int,
    *,
    length: int,
    fft_length: int | None = None,
    center: bool = True,
) -> torch.Tensor:
    """Bring spectra back to signals by weighted overlap-add, the least-squares inverse of ``stft``.

    Args:
        spectrum: (..., fft_length // 2 + 1, frames) complex.
        window: (window_length,), as in ``stft``.
        hop_length: step between frames in samples.
        length: number of samples wanted; beyond the last frame they are zero.
        fft_length: as in ``stft``.
        center: as in ``stft``.

    Returns:
        (..., length). For an unchanged centred spectrum this is the signal itself, for any length and any hop of at
        most half a window. Uncentred, the ends come back only as far as the window weighs them.

    Source: Griffin and Lim 1984, Signal estimation from modified short-time Fourier transform, equation 6.
    """
    fft_length, window = _fit_window(window, fft_length)
    frames = spectrum.shape[-1]
    pieces = torch.fft.irfft(spectrum.transpose(-1, -2), n=fft_length)
    window = window.to(pieces)
    total = (frames - 1) * hop_length + fft_length
    batch = pieces.shape[:-2]
    summed = _overlap_add((pieces * window).reshape(-1, frames, fft_length), hop_length)
    weight = _overlap_add(window.square().expand(1, frames, fft_length), hop_length)
    waveform = summed / torch.where(weight > 1e-10, weight, torch.ones_like(weight))
    begin = fft_length // 2 if center else 0
    waveform = waveform[:, begin : begin + length]
    missing = length - (min(total, begin + length) - begin)
    return nn.functional.pad(waveform, (0, missing)).reshape(*batch, length)


def _fit_window(window: torch.Tensor, fft_length: int | None) -> tuple[int, torch.Tensor]:
    fft_length = fft_length or len(window)
    missing = fft_length - len(window)
    if missing < 0:
        raise ValueError(f"the window ({len(window)}) is longer than the transform ({fft_length})")
    return fft_length, nn.functional.pad(window, (missing // 2, missing - missing // 2))


def _overlap_add(pieces: torch.Tensor, hop_length: int) -> torch.Tensor:
    """Sum (batch, frames, width) at steps of ``hop_length`` to (batch, (frames - 1) * hop_length + width)."""
    frames, width = pieces.shape[1:]
    total = (frames - 1) * hop_length + width
    folded = nn.functional.fold(pieces.transpose(1, 2), (1, total), (1, width), stride=(1, hop_length))
    return folded[:, 0, 0]


class STFT(nn.Module):
    """The short-time Fourier transform with fixed settings, and its inverse.

    Args:
        window_length: in samples.
        hop_length: step between frames in samples; by default a quarter of the window.
        fft_length: length of the transform; by default the window's.
        window: "hann", "sqrt_hann", "hamming" or "rectangular", periodic.
        center: as in ``stft``.
        pad_mode: as in ``stft``.

    The window moves with the module between devices and is not part of its state.
    """

    window: torch.Tensor

    def __init__(
        self,
        window_length: int,
        hop_length: int | None = None,
        *,
        fft_length: int | None = None,
        window: WindowName = "hann",
        center: bool = True,
        pad_mode: PadMode = "constant",
    ) -> None:
        super().__init__()
        self.hop_length = hop_length or max(1, window_length // 4)
        self.fft_length = fft_length or window_length
        self.center = center
        self.pad_mode: PadMode = pad_mode
        self.register_buffer("window", make_window(window, window_length), persistent=False)

    @property
    def num_frequencies(self) -> int:
        """Number of frequencies of a frame."""
        return self.fft_length // 2 + 1

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Transform (..., time) to complex (..., num_frequencies, frames)."""
        return stft(
            waveform,
            self.window,
            self.hop_length,
            fft_length=self.fft_length,
            center=self.center,
            pad_mode=self.pad_mode,
        )

    def inverse(self, spectrum: torch.Tensor, length: int) -> torch.Tensor:
        """Bring complex (..., num_frequencies, frames) back to (..., length)."""
        return istft(
            spectrum, self.window, self.hop_length, length=length, fft_length=self.fft_length, center=self.center
        )

    def frame_lengths(self, lengths: torch.Tensor) -> torch.Tensor:
        """Turn numbers of valid samples, (batch,) int64, into numbers of valid frames, (batch,) int64."""
        if self.center:
            return 1 + (lengths + self.hop_length - 1).div(self.hop_length, rounding_mode="floor")
        whole = 1 + (lengths - self.fft_length).div(self.hop_length, rounding_mode="floor")
        return whole.clamp_min(0)
