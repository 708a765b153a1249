"""The default voice fingerprint: long-term spectral statistics, projected to where speakers differ most.

It tells two voices of one recording apart well enough to keep a talker on one track across a silence, needs no
network and takes milliseconds. It is not speaker verification; hand a better embedding in as ``fingerprint=``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from auriscope.errors import CheckpointError
from auriscope.signal.mel import mel_filterbank
from auriscope.signal.rates import resample_array

Array = npt.NDArray[Any]

SAMPLE_RATE = 8000
NUM_MELS = 32
_WINDOW = 512
_HOP = 128
_LOWEST_HZ = 60.0
_PITCH_RANGE = 65.0, 400.0
_SHIPPED = Path(__file__).with_name("fingerprint.safetensors")


def voice_statistics(waveform: Array, sample_rate: int) -> Array:
    """Describe a voice by statistics of its spectrum and pitch, whatever its level.

    Mean and standard deviation over the active frames (within 30 dB of the loudest) of the log-mel spectrum less its
    mean over the bands, then median and spread of the pitch in octaves and the share of voiced frames. All of it
    between 80 and 3800 Hz, so that recordings of every sample rate from 8 kHz give the same.

    Args:
        waveform: (time,), speech of one voice; from 0.3 s on the result means something.
        sample_rate: Hz.

    Returns:
        (2 * NUM_MELS + 3,) float64; zeros for silence.
    """
    narrow = resample_array(np.asarray(waveform, np.float32), sample_rate, SAMPLE_RATE).astype(np.float64)
    narrow = np.pad(narrow, (0, max(0, _WINDOW - len(narrow))))
    frames = np.lib.stride_tricks.sliding_window_view(narrow, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    spectra = np.abs(np.fft.rfft(frames, 2 * _WINDOW)) ** 2
    # Hum and offset below the voice must not decide which frames are active.
    spectra[:, : round(_LOWEST_HZ * 2 * _WINDOW / SAMPLE_RATE)] = 0.0
    energies = spectra.sum(axis=1)
    if not energies.max() > 0.0:
        return np.zeros(2 * NUM_MELS + 3)
    spectra = spectra[energies > 1e-3 * energies.max()]
    filters = mel_filterbank(SAMPLE_RATE, 2 * _WINDOW, NUM_MELS, min_hz=80.0, max_hz=3800.0, scale="htk", norm="none")
    bands = 10.0 * np.log10(spectra @ filters.numpy().T + 1e-10 * energies.max())
    shapes = bands - bands.mean(axis=1, keepdims=True)
    return np.concatenate([shapes.mean(axis=0), shapes.std(axis=0), _pitch_statistics(spectra)])


def _pitch_statistics(spectra: Array) -> Array:
    """Median and spread of log2 pitch and the share of voiced frames, by the autocorrelation below 1200 Hz."""
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2.0, spectra.shape[1])
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_WINDOW), 2 * _WINDOW)) ** 2)[:_WINDOW]
    correlations = np.fft.irfft(spectra * (frequencies < 1200.0))[:, :_WINDOW]
    # Divided by the window's own autocorrelation, or long periods would always look weak (Boersma 1993, equation 9).
    correlations = correlations / (correlations[:, :1] + 1e-12) / (window / window[0] + 1e-9)
    shortest, longest = (int(SAMPLE_RATE / frequency) for frequency in reversed(_PITCH_RANGE))
    peaks = correlations[:, shortest:longest]
    # Of peaks almost as high the earliest is the period: its multiples correlate as well.
    first = np.argmax(peaks > 0.9 * peaks.max(axis=1, keepdims=True), axis=1) + shortest
    near = np.arange(shortest, longest) < 1.25 * first[:, None]
    lags = np.where(near, peaks, -np.inf).argmax(axis=1) + shortest
    voiced = correlations[np.arange(len(lags)), lags] > 0.5
    if voiced.sum() < 4:
        return np.array([np.log2(150.0), 0.0, 0.0])
    octaves = np.log2(SAMPLE_RATE / lags[voiced])
    return np.array([np.median(octaves), octaves.std(), voiced.mean()])


class SpectralFingerprint:
    """Maps speech to an embedding in which two stretches of one voice have a high cosine similarity.

    ``voice_statistics``, then a linear discriminant projection (Fisher 1936) fitted by ``fit`` on voices of LibriSpeech
    (CC BY 4.0) and Common Voice (CC0); ``benchmarks/fit_fingerprint.py`` regenerates and measures it.

    >>> import numpy as np
    >>> speech = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    >>> SpectralFingerprint()(speech, 16000).shape
    (32,)
    """

    def __init__(self, mean: Array | None = None, projection: Array | None = None) -> None:
        if mean is None or projection is None:
            shipped = _read(_SHIPPED)
            mean, projection = shipped["mean"], shipped["projection"]
        self.mean = np.asarray(mean, np.float64)
        self.projection = np.asarray(projection, np.float64)

    def __call__(self, waveform: Array, sample_rate: int) -> Array:
        """Embed (time,) at ``sample_rate`` Hz: (dim,) float32; zeros for silence."""
        statistics = voice_statistics(waveform, sample_rate)
        if not statistics.any():
            return np.zeros(self.projection.shape[1], np.float32)
        return np.asarray((statistics - self.mean) @ self.projection, np.float32)

    @classmethod
    def fit(cls, statistics: Array, speakers: Array, dim: int = 32, shrinkage: float = 0.1) -> Self:
        """Find the directions in which speakers differ most against how much one speaker varies.

        Args:
            statistics: (examples, features) of ``voice_statistics``.
            speakers: (examples,) labels.
            dim: number of directions.
            shrinkage: how far the covariance within speakers is drawn to its diagonal, in [0, 1].
        """
        mean = statistics.mean(axis=0)
        centred = statistics - mean
        names, index = np.unique(speakers, return_inverse=True)
        speaker_means = np.stack([centred[index == number].mean(axis=0) for number in range(len(names))])
        residuals = centred - speaker_means[index]
        within = residuals.T @ residuals / len(centred)
        between = speaker_means[index].T @ speaker_means[index] / len(centred)
        scale = np.sqrt(np.diag(within))
        within = (1.0 - shrinkage) * within / np.outer(scale, scale) + shrinkage * np.eye(len(scale))
        _, vectors = scipy.linalg.eigh(between / np.outer(scale, scale), within)
        return cls(mean, vectors[:, ::-1][:, :dim] / scale[:, None])

    def save(self, path: Path) -> None:
        """Write the projection as safetensors."""
        save_file(
            {"mean": self.mean.astype(np.float32), "projection": self.projection.astype(np.float32, order="C")}, path
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote; raises ``CheckpointError`` when it is missing or damaged."""
        values = _read(path)
        return cls(values["mean"], values["projection"])


class JoinedFingerprint:
    """Several fingerprints side by side, each at unit length, so that the similarity of voices is the mean of theirs.

    What a network hears and what statistics of spectra hear fail in different recordings.

    >>> import numpy as np
    >>> speech = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    >>> JoinedFingerprint(SpectralFingerprint(), lambda speech, sample_rate: np.ones(3))(speech, 16000).shape
    (35,)
    """

    def __init__(self, *parts: Callable[[Array, int], Array]) -> None:
        self._parts = parts

    def __call__(self, waveform: Array, sample_rate: int) -> Array:
        """Embed (time,) at ``sample_rate`` Hz; a part that knows nothing of it is zeros."""
        return np.concatenate([_unit(part(waveform, sample_rate)) for part in self._parts])


def _unit(embedding: Array) -> Array:
    length = float(np.linalg.norm(embedding))
    return embedding / length if np.isfinite(length) and length > 0.0 else np.zeros_like(embedding)


def _read(path: Path) -> dict[str, Array]:
    try:
        values: dict[str, Array] = load_file(path)
        if values["mean"].shape != (values["projection"].shape[0],):
            raise ValueError("mean and projection do not fit together")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: is not a voice fingerprint ({error})") from error
    return values
