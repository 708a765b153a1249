"""Finding the same sound again although its file differs: cut, louder, at another rate, through a lossy codec.

Pairs of spectral peaks and the time between them name a place in a recording; two recordings share a sound if many of
their pairs agree on one offset (A. Wang, "An industrial-strength audio search algorithm", ISMIR 2003, sections 2.1 to
2.3). Somebody who reads the same sentences again makes other pairs.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from math import gcd

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from scipy.signal import resample_poly

Landmarks = npt.NDArray[np.uint64]

SAME_SOUND = 0.1
"""Recordings whose similarity reaches this hold the same sound."""

_RATE, _WINDOW, _HOP = 8_000, 1_024, 256
_LOWEST_BIN, _HIGHEST_BIN = 16, 480
_NEIGHBOURHOOD = (13, 23)
_FANOUT = 4
_MIN_STEP, _MAX_STEP, _MAX_LEAP = 2, 48, 63
_TIME_BITS = 20
# Below so many pairs, agreement says nothing.
_FEWEST = 8


def fingerprint(waveform: npt.NDArray[np.float32], sample_rate: int) -> str:
    """Give the landmarks of (time,) at a rate in hertz, as text; empty for silence."""
    common = gcd(_RATE, sample_rate)
    signal = resample_poly(waveform.astype(np.float64), _RATE // common, sample_rate // common)
    if len(signal) < _WINDOW or np.abs(signal).max() < 1e-4:
        return ""
    frames = np.lib.stride_tricks.sliding_window_view(signal, _WINDOW)[::_HOP]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1))[:, _LOWEST_BIN:_HIGHEST_BIN]
    level = np.log(magnitude + 1e-3 * magnitude.max())
    is_peak = (level == maximum_filter(level, _NEIGHBOURHOOD)) & (level > level.mean() + 0.8 * level.std())
    times, bins = np.nonzero(is_peak)
    return base64.b64encode(_pairs(times, bins).tobytes()).decode()


def _pairs(times: npt.NDArray[np.intp], bins: npt.NDArray[np.intp]) -> Landmarks:
    found: list[int] = []
    for anchor in range(len(times)):
        taken = 0
        for other in range(anchor + 1, len(times)):
            step, leap = int(times[other] - times[anchor]), int(bins[other] - bins[anchor])
            if step > _MAX_STEP or taken == _FANOUT:
                break
            if step < _MIN_STEP or abs(leap) > _MAX_LEAP:
                continue
            name = (int(bins[anchor]) << 14) | ((leap + 64) << 7) | step
            found.append((name << _TIME_BITS) | int(times[anchor]))
            taken += 1
    return np.array(found, dtype=np.uint64)


def _landmarks(text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    both = np.frombuffer(base64.b64decode(text), dtype=np.uint64)
    names = (both >> np.uint64(_TIME_BITS)).astype(np.int64)
    return names, (both & np.uint64((1 << _TIME_BITS) - 1)).astype(np.int64)


def similarity(first: str, second: str) -> float:
    """Give the share, in [0, 1], of the shorter recording's landmarks that lie in the other at one offset.

    >>> similarity("", "")
    0.0
    """
    names, times = _landmarks(first)
    other_names, other_times = _landmarks(second)
    fewest = min(len(names), len(other_names))
    if fewest < _FEWEST:
        return 0.0
    order = np.argsort(other_names, kind="stable")
    begin = np.searchsorted(other_names[order], names, side="left")
    end = np.searchsorted(other_names[order], names, side="right")
    offsets = [other_times[order[a:b]] - time for a, b, time in zip(begin, end, times, strict=True) if b > a]
    if not offsets:
        return 0.0
    joined = np.concatenate(offsets)
    counts = np.bincount(joined - joined.min())
    # A cut that is no multiple of the hop spreads agreement over two neighbours.
    return min(1.0, float((counts + np.append(counts[1:], 0)).max()) / fewest)


def most_similar(text: str, earlier: Iterable[tuple[str, str]]) -> tuple[str | None, float]:
    """Find the most similar of earlier recordings, pairs of a name and a fingerprint; (None, 0.0) if none is alike."""
    names = np.unique(_landmarks(text)[0])
    best: tuple[str | None, float] = (None, 0.0)
    for name, other in earlier:
        # Sharing few names is quick to see, and rules most of them out.
        shared = np.isin(_landmarks(other)[0], names).sum()
        if shared >= _FEWEST:
            found = similarity(text, other)
            if found > best[1]:
                best = (name, found)
    return best
