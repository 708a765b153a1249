"""Does one person speak, or two at once? An indicator for reviewers, without networks.

Two voices leave fewer gaps in time and in frequency than one, and the sound that remains after the stronger voice's
period is cancelled has a period of its own (A. de Cheveigné and H. Kawahara, "Multiple period estimation and pitch
perception model", Speech Communication 27, 1999). A logistic regression weighs a handful of such measures.
``benchmarks/one_voice.py`` fits it and says how often it is right: on talkers, rooms and noises that it has not seen,
the area under the ROC curve is 0.71 to 0.86 by corpus. At ``LIMIT``, 5 to 45 % of single talkers are suspected, and 0
to 13 % of pairs. So it is a hint for reviewers and no reason to refuse anybody.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

FloatArray = npt.NDArray[np.float64]

FEATURES = (
    "voiced_share",
    "periodicity",
    "second_periodicity",
    "second_share",
    "residual_db",
    "gap_share",
    "level_spread_db",
    "band_spread_db",
    "sparsity",
    "modulation",
)
"""What the regression weighs, in order."""

LIMIT = 0.2
"""Below this probability of two voices, a recording is suspected to hold one."""

# Printed by benchmarks/one_voice.py.
_BIAS = 16.084
_WEIGHTS = np.array([0.3305, -22.17, -8.935, 11.45, -0.2311, -5.667, -0.04906, 0.1627, -1.668, 0.5014])

_RATE = 8_000
_FRAME, _HOP = 512, 128
# Periods of voices between 70 and 400 Hz, in samples.
_SHORTEST, _LONGEST = 20, 114
_ACTIVE_DB = 30.0


def measure(waveform: npt.NDArray[np.float32], sample_rate: int) -> FloatArray | None:
    """Measure (time,) at a rate in hertz, and give the values named by ``FEATURES``; None without any sound."""
    common = gcd(_RATE, sample_rate)
    signal = resample_poly(waveform.astype(np.float64), _RATE // common, sample_rate // common)
    if len(signal) < 4 * _FRAME:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(signal, _FRAME)[::_HOP]
    power = np.mean(frames**2, axis=1)
    if power.max() < 1e-9:
        return None
    level_db = 10 * np.log10(power + 1e-12)
    loud_db = np.percentile(level_db, 95)
    active = level_db > loud_db - _ACTIVE_DB
    spectrum = np.abs(np.fft.rfft(frames[active] * np.hanning(_FRAME), axis=1)) ** 2
    return np.concatenate([_periods(frames[active]), _gaps(level_db, loud_db), _sparsity(spectrum)])


def _normalised_correlation(frames: FloatArray) -> FloatArray:
    """Correlate each frame with itself, (frames, lags), 1 where it repeats exactly; lags up to ``_LONGEST``."""
    length = frames.shape[1]
    spectrum = np.fft.rfft(frames, 2 * length, axis=1)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : _LONGEST + 1]
    energy = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    lags = np.arange(_LONGEST + 1)
    head = energy[:, length - lags]
    tail = energy[:, -1:] - energy[:, lags]
    result: FloatArray = correlation / np.sqrt(head * tail + 1e-12)
    return result


def _periods(frames: FloatArray) -> FloatArray:
    correlation = _normalised_correlation(frames)[:, _SHORTEST:]
    first = correlation.argmax(axis=1)
    strength = np.take_along_axis(correlation, first[:, None], axis=1)[:, 0]
    lag = first + _SHORTEST
    rest_length = _FRAME - _LONGEST
    index = np.arange(rest_length)[None, :] + _LONGEST
    rest = frames[:, _LONGEST:] - np.take_along_axis(frames, index - lag[:, None], axis=1)
    residual_db = 10 * np.log10((np.mean(rest**2, axis=1) + 1e-12) / (np.mean(frames**2, axis=1) + 1e-12))
    second = _normalised_correlation(rest)[:, _SHORTEST:]
    lags = np.arange(_SHORTEST, _LONGEST + 1)[None, :]
    ratio = lags / lag[:, None]
    # Multiples and simple fractions of the first period are the same voice.
    same = np.zeros_like(second, dtype=bool)
    for multiple in (1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.0, 3 / 2, 2.0, 3.0, 4.0):
        same |= np.abs(ratio / multiple - 1) < 0.06
    other = np.where(same, -1.0, second).max(axis=1)
    voiced = strength > 0.5
    if not voiced.any():
        return np.array([0.0, strength.mean(), 0.0, 0.0, residual_db.mean()])
    return np.array(
        [voiced.mean(), strength[voiced].mean(), other[voiced].mean(), (other[voiced] > 0.5).mean(),
         residual_db[voiced].mean()]
    )  # fmt: skip


def _gaps(level_db: FloatArray, loud_db: float) -> FloatArray:
    audible = level_db[level_db > loud_db - 60]
    return np.array([(level_db < loud_db - 20).mean(), audible.std()])


def _sparsity(power: FloatArray) -> FloatArray:
    edges = np.unique(np.round(np.geomspace(8, power.shape[1] - 1, 21)).astype(int))
    bands = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
    bands_db = 10 * np.log10(bands + 1e-9 * bands.max())
    magnitude = np.sqrt(power[:, 8:])
    ordered = np.sort(magnitude, axis=1)
    count = ordered.shape[1]
    weights = (2 * np.arange(1, count + 1) - count - 1) / count
    gini = (ordered * weights).sum(axis=1) / (ordered.sum(axis=1) + 1e-12)
    change = np.abs(np.diff(bands_db, axis=0)).mean() if len(bands_db) > 1 else 0.0
    return np.array([bands_db.std(axis=0).mean(), gini.mean(), change])


def probability_of_two(features: FloatArray) -> float:
    """Give the probability, in [0, 1], that values of :func:`measure` come from two voices."""
    return float(1.0 / (1.0 + np.exp(-(_BIAS + _WEIGHTS @ features))))
