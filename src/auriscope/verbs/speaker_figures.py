"""Figures of speaker models: errors of verification on trials of unseen speakers, and the calibration that ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from auriscope.data.voices import TrialSet, trials
from auriscope.metrics.eer import verification_rates
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.pretrained.files import CALIBRATION_NAME
from auriscope.speaker.calibration import Calibration, calibrate
from auriscope.speaker.embedder import Embedder
from auriscope.speaker.scoring import trial_scores

Interval = tuple[float | None, float | None, float | None]


def speaker_figures(model: Embedder, found: TrialSet, on_progress: Callable[[float], None]) -> dict[str, Interval]:
    """Score the trials of a set by cosines, and tell how well they are told apart.

    ``eer_percent`` is the equal error rate, ``min_dcf`` the minimal detection cost where one trial in a hundred is of
    one speaker; with 95 % intervals, for which whole speakers are resampled: what other people would get.
    """
    scores = trial_scores(model, found, on_progress)
    rates = verification_rates(scores, found.targets, *_speakers(found))
    eer = [None if value is None else 100.0 * value for value in (rates.eer.value, rates.eer.low, rates.eer.high)]
    return {
        "eer_percent": (eer[0], eer[1], eer[2]),
        "min_dcf": (rates.min_dcf.value, rates.min_dcf.low, rates.min_dcf.high),
    }


def calibrate_folder(folder: Path, sets: Sequence[str], split: str = "valid") -> Calibration:
    """Calibrate the speaker model in a folder on sets of trials, and write that beside its weights.

    All trials of all sets count alike. Errors as of :func:`~auriscope.speaker.calibration.calibrate`.
    """
    model = load(folder)
    assert isinstance(model, Embedder)
    listed = [trials(name, split, sample_rate=int(model.config.sample_rate)) for name in sets]
    scores = [trial_scores(model, found).numpy() for found in listed]
    names = [_speakers(found) for found in listed]
    found = calibrate(
        np.concatenate(scores),
        np.concatenate([each.targets for each in listed]),
        [name for first, _ in names for name in first],
        [name for _, second in names for name in second],
        trials=", ".join(f"{each.name} {split}" for each in listed),
        weights_sha256=weights_sha256(folder),
    )
    found.write(folder / CALIBRATION_NAME)
    return found


def _speakers(found: TrialSet) -> tuple[list[str], list[str]]:
    first, second = ([found.speakers[index] for index in side] for side in (found.first, found.second))
    return first, second
