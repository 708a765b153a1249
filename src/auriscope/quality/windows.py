"""Scores of recordings longer than what an estimator was trained on, put together from windows.

A track's windows are put together as their energies are in SI-SNR: with the energy e of the track in a window and its
estimated error share f = 1 / (1 + 10^(SI-SNR / 10)), the whole has the error share sum(e f) / sum(e), so that windows
count by how much of the track is in them. The expected error is the mean over the windows, weighted by e. The whole
counts as outside the trained range for a reason that holds for windows with more than half of the track's energy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from auriscope.quality.calibration import REASONS, Prediction


class WindowScores:
    """Gathers an estimator's predictions for the windows of one mixture and its tracks; any length, constant memory."""

    def __init__(self, estimator: Any, num_tracks: int) -> None:
        self.estimator = estimator
        self._energy = torch.zeros(num_tracks, dtype=torch.float64)
        self._error_energy = torch.zeros(num_tracks, dtype=torch.float64)
        self._expected = torch.zeros(num_tracks, dtype=torch.float64)
        self._outside = torch.zeros(num_tracks, len(REASONS), dtype=torch.float64)

    @torch.no_grad()
    def add(self, mixture: Tensor, estimates: Tensor) -> None:
        """Judge the next window: (time,) and (tracks, time)."""
        device = next(self.estimator.parameters()).device
        prediction = self.estimator.predict(mixture[None].to(device), estimates[None].to(device))
        energy = estimates.double().square().sum(-1).cpu()
        self._energy += energy
        self._error_energy += energy / (1 + 10 ** (prediction.score_db[0].double().cpu() / 10))
        self._expected += energy * prediction.expected_error_db[0].double().cpu()
        self._outside += energy[:, None] * prediction.outside[0].double().cpu()

    def result(self) -> Prediction:
        """What is estimated of the whole, (1, tracks); NaN for a track without energy in any window."""
        share = self._error_energy / self._energy
        score = 10 * (torch.log10(1 - share) - torch.log10(share))
        outside = self._outside / self._energy[:, None] > 0.5
        config = self.estimator.config
        outside[:, REASONS.index("score")] |= (score < config.minimum_db) | (score > config.maximum_db)
        return Prediction(score[None].float(), (self._expected / self._energy)[None].float(), outside[None])


def window_lengths(num_frames: int, window_frames: int) -> list[int]:
    """Cut a length into windows; the last two share what is left evenly, so that none is short.

    >>> window_lengths(100, 40), window_lengths(30, 40), window_lengths(80, 40)
    ([40, 30, 30], [30], [40, 40])
    """
    whole, rest = divmod(num_frames, window_frames)
    if rest == 0 or whole == 0:
        return [window_frames] * whole or [num_frames]
    left = window_frames + rest
    return [window_frames] * (whole - 1) + [left // 2, left - left // 2]


def predict_long(estimator: Any, mixture: Tensor, estimates: Tensor) -> Prediction:
    """Estimate one recording of any length: (time,) and (tracks, time), at the estimator's rate, to (1, tracks)."""
    scores = WindowScores(estimator, len(estimates))
    sizes = window_lengths(mixture.shape[-1], round(estimator.config.window_seconds * estimator.config.sample_rate))
    for part, tracks in zip(*(torch.split(signal, sizes, -1) for signal in (mixture, estimates)), strict=True):
        scores.add(part, tracks)
    return scores.result()
