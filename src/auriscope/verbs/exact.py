"""Exact scores of tracks against references, from streams: any length in constant memory.

The definitions are those of :func:`auriscope.metrics.ratios.si_snr` and :func:`auriscope.metrics.bss.sdr`. Both are
made of sums over time (inner products, and correlations at lags up to 511 samples), which are gathered block by block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import LinAlgError, solve_toeplitz

from auriscope.metrics.pit import best_permutation

_NUM_TAPS = 512
_EPS = 1e-10
_LOADING = 1e-12

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ExactScore:
    """Scores in dB of one track: the number of its reference, SI-SNR, its improvement over the mixture, and SDR.

    A value is None where it is not defined: a silent track or reference.
    """

    reference: int
    si_snr_db: float | None
    si_snri_db: float | None
    sdr_db: float | None


class ExactScorer:
    """Gather blocks of one mixture, its tracks and the references, then score with the best joint permutation."""

    def __init__(self, num_tracks: int, num_references: int) -> None:
        self.num_tracks, self.num_references = num_tracks, num_references
        num_signals = 1 + num_tracks + num_references
        self._count = 0
        self._sums = np.zeros(num_signals)
        self._products = np.zeros((num_signals, num_signals))
        self._history = np.zeros((num_references, _NUM_TAPS - 1))
        # Of each reference with itself, then of each track with each reference, at lags from 0.
        self._auto = np.zeros((num_references, _NUM_TAPS))
        self._cross = np.zeros((num_tracks, num_references, _NUM_TAPS))

    def update(self, block: npt.NDArray[np.float32]) -> None:
        """Take the next block, (1 + tracks + references, time), in this order."""
        signals = block.astype(np.float64)
        self._count += signals.shape[1]
        self._sums += signals.sum(axis=1)
        self._products += signals @ signals.T
        extended = np.concatenate([self._history, signals[1 + self.num_tracks :]], axis=1)
        self._history = extended[:, extended.shape[1] - (_NUM_TAPS - 1) :]
        num_fft = 1 << (extended.shape[1] - 1).bit_length()
        past = np.fft.rfft(extended, num_fft).conj()
        # The present stands behind the history, so that lags reach back over the block's edge and nothing wraps around.
        present = np.fft.rfft(np.pad(signals[1:], ((0, 0), (_NUM_TAPS - 1, 0))), num_fft)
        self._auto += np.fft.irfft(present[self.num_tracks :] * past, num_fft)[:, :_NUM_TAPS]
        self._cross += np.fft.irfft(present[: self.num_tracks, None] * past, num_fft)[..., :_NUM_TAPS]

    def scores(self) -> list[ExactScore | None]:
        """Score every track, in order; None for the tracks that are left over when there are fewer references."""
        tracks = range(1, 1 + self.num_tracks)
        first = 1 + self.num_tracks
        table = np.array([[self._si_snr(track, first + ref) for ref in range(self.num_references)] for track in tracks])
        chosen = _assign(table)
        results: list[ExactScore | None] = []
        for track in range(self.num_tracks):
            ref = chosen.get(track)
            if ref is None:
                results.append(None)
                continue
            after, before = table[track, ref], self._si_snr(0, first + ref)
            results.append(ExactScore(ref, _finite(after), _finite(after - before), _finite(self._sdr(track, ref))))
        return results

    def _si_snr(self, estimate: int, reference: int) -> float:
        means = self._sums / max(self._count, 1)
        covariance = self._products - self._count * np.outer(means, means)
        energy, own = covariance[estimate, estimate], covariance[reference, reference]
        # Constant signals are silent too, up to the rounding of the sums.
        if own <= 1e-12 * self._products[reference, reference] or energy <= 1e-12 * self._products[estimate, estimate]:
            return math.nan
        share = min(covariance[estimate, reference] ** 2 / (energy * own), 1.0)
        return _ratio_db(share)

    def _sdr(self, track: int, reference: int) -> float:
        energy, own = self._products[1 + track, 1 + track], self._auto[reference, 0]
        if energy <= 0 or own <= 0:
            return math.nan
        column = self._auto[reference].copy()
        column[0] += _LOADING * own
        cross = self._cross[track, reference]
        try:
            taps = solve_toeplitz(column, cross)
        except LinAlgError:
            return math.nan
        return _ratio_db(min(max(float(taps @ cross) / energy, 0.0), 1.0))


def _ratio_db(share: float) -> float:
    """Decibels of an explained share of the energy over the rest, within -100 to 100 dB."""
    return 10 * (math.log10(share + _EPS) - math.log10(1 - share + _EPS))


def _assign(table: Array) -> dict[int, int]:
    """Give tracks their references such that the sum of scores is best: track number to reference number."""
    scores = torch.from_numpy(table)[None]
    num_tracks, num_references = table.shape
    if num_tracks >= num_references:
        return {int(track): ref for ref, track in enumerate(best_permutation(scores)[0])}
    return {track: int(ref) for track, ref in enumerate(best_permutation(scores.mT)[0])}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
