"""How many people talk in a recording: 1, 2, 3, or more than can be told, judged from what separators make of it.

A separator for two talkers that is given one leaves the second track almost empty, or shares one voice out over both;
given three it packs two voices into one track. Levels, overlap, likeness of the voices and what is left over, measured
on the tracks of every separator at hand, are what a multinomial logistic regression decides on. Its coefficients are
fitted on valid mixtures by ``benchmarks/fit_counting.py`` and stored as data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from auriscope.errors import CheckpointError
from auriscope.separation.fingerprint import SpectralFingerprint
from auriscope.separation.joining import BLOCK_SECONDS, ActivityLevel, Array, Fingerprint
from auriscope.separation.long import LongConfig, Separator, separate_waveform

FORMAT_VERSION = 1
SHIPPED_COUNTER = Path(__file__).with_name("counting.json")
_PRESENT_DB = 15.0
_FLOOR_DB = -60.0
_PIECE_SECONDS = 3.0

_CHUNKS = LongConfig(chunk_seconds=8.0, overlap_seconds=2.0)
"""As the shipped decision was fitted with; how tracks are cut for listening may change without it."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SpeakerCount:
    """How many people talk.

    ``at_least`` is true where there may be more than ``count``. ``confidence`` is the probability that the classifier
    gives to its answer, or None where nothing was estimated (a given number, a silent recording).
    """

    count: int
    at_least: bool = False
    confidence: float | None = None


def estimate_num_speakers(
    recording: Array,
    separators: Sequence[Separator],
    classifier: CountClassifier,
    *,
    sample_rate: int,
    fingerprint: Fingerprint | None = None,
) -> SpeakerCount:
    """Estimate how many people talk in a recording.

    Args:
        recording: (time,); some 10 to 120 seconds are enough, and all of it is held in memory.
        separators: models, those that the classifier was fitted with and in that order.
        classifier: the fitted decision.
        sample_rate: of the recording, Hz.
        fingerprint: as for ``separate_stream``, and as the classifier was fitted with.

    Returns:
        1, 2 or 3; with ``at_least`` where more than that is likelier, or where no separator for three talkers is at
        hand that could tell. A silent recording counts as one talker, without confidence.
    """
    features = separation_features(recording, separators, sample_rate=sample_rate, fingerprint=fingerprint)
    if features is None:
        return SpeakerCount(1)
    probabilities = classifier.probabilities(features)
    return classifier.decide(probabilities)


def separation_features(
    recording: Array, separators: Sequence[Separator], *, sample_rate: int, fingerprint: Fingerprint | None = None
) -> dict[str, float] | None:
    """Separate a recording with each model and describe what comes out, by name; None for a silent recording."""
    fingerprint = fingerprint or SpectralFingerprint()
    features: dict[str, float] = {}
    for separator in separators:
        tracks = separate_waveform(
            recording, separator, sample_rate=sample_rate, config=_CHUNKS, fingerprint=fingerprint
        )
        found = track_features(tracks, recording, sample_rate, fingerprint)
        if found is None:
            return None
        features |= {f"{len(tracks)}:{name}": value for name, value in found.items()}
    return features


def track_features(
    tracks: Array, mixture: Array, sample_rate: int, fingerprint: Fingerprint
) -> dict[str, float] | None:
    """Describe separated tracks by name; None where nobody speaks.

    For the tracks from the second strongest on: level against the strongest in dB, share of the speech in which the
    track is heard (within 15 dB of the loudest) and in which it is the loudest. Over pairs of tracks: the strongest
    correlation of waveforms and of envelopes, the greatest and least likeness of voices. Over tracks: how alike
    stretches of one track are, at the least. Of the mixture: what the tracks leave over, in dB.

    Args:
        tracks: (sources, time) with at least two sources.
        mixture: (time,).
        sample_rate: Hz.
        fingerprint: maps ((time,), sample rate) to an embedding.
    """
    block = max(1, round(BLOCK_SECONDS * sample_rate))
    num_blocks = len(mixture) // block
    cut = np.concatenate([mixture[None], tracks])[:, : num_blocks * block].astype(np.float64)
    blocks = cut.reshape(len(cut), num_blocks, block)
    powers = np.mean(blocks**2, axis=2)
    activity = ActivityLevel()
    activity.update(powers[0])
    active = powers[0] > activity.threshold
    if not active.any():
        return None
    powers, blocks = powers[:, active], blocks[:, active]
    order = 1 + np.argsort(-powers[1:].sum(axis=1))
    track_powers, waveforms = powers[order], blocks[order]
    levels = 10.0 * np.log10(track_powers + 1e-7 * powers[0].mean())
    loudest = levels.max(axis=0)
    present = levels > loudest - _PRESENT_DB
    totals = track_powers.sum(axis=1)
    features: dict[str, float] = {}
    for rank in range(1, len(order)):
        features[f"level_db_{rank + 1}"] = _ratio_db(totals[rank], totals[0])
        features[f"heard_{rank + 1}"] = float(present[rank].mean())
        features[f"loudest_{rank + 1}"] = float((levels[rank] >= loudest).mean())
    residual = np.sum((blocks[0] - waveforms.sum(axis=0)) ** 2)
    features["left_over_db"] = _ratio_db(float(residual), float(np.sum(blocks[0] ** 2)))
    voices = [_voice(waveforms[rank][present[rank]], sample_rate, fingerprint) for rank in range(len(order))]
    pairs = list(combinations(range(len(order)), 2))
    features["waveform_correlation"] = max(_correlation(waveforms[a].ravel(), waveforms[b].ravel()) for a, b in pairs)
    features["envelope_correlation"] = max(_centred_correlation(levels[a], levels[b]) for a, b in pairs)
    alike = [_similarity(voices[a], voices[b]) for a, b in pairs]
    features["most_alike"], features["least_alike"] = max(alike), min(alike)
    features["constancy"] = min(
        _constancy(waveforms[rank][present[rank]], sample_rate, fingerprint) for rank in range(len(order))
    )
    return features


class CountClassifier:
    """Multinomial logistic regression from the features of ``separation_features`` to a number of talkers.

    ``classes`` are numbers of talkers; the largest, if it is beyond the largest separator, stands for "more than can be
    told". ``separators`` are the addresses of the models that it was fitted with.
    """

    def __init__(
        self,
        feature_names: Sequence[str],
        classes: Sequence[int],
        mean: Matrix,
        scale: Matrix,
        weights: Matrix,
        bias: Matrix,
        *,
        separators: Sequence[str] = (),
        max_separated: int = 3,
    ) -> None:
        self.feature_names, self.classes = tuple(feature_names), tuple(classes)
        self.mean, self.scale = np.asarray(mean, np.float64), np.asarray(scale, np.float64)
        self.weights, self.bias = np.asarray(weights, np.float64), np.asarray(bias, np.float64)
        self.separators, self.max_separated = tuple(separators), max_separated
        num_features, num_classes = len(self.feature_names), len(self.classes)
        shapes = (self.mean.shape, self.scale.shape, self.weights.shape, self.bias.shape)
        if shapes != ((num_features,), (num_features,), (num_classes, num_features), (num_classes,)):
            raise ValueError(f"the coefficients {shapes} do not fit {num_features} features and {num_classes} classes")

    @classmethod
    def fit(
        cls,
        examples: Sequence[dict[str, float]],
        counts: Sequence[int],
        *,
        separators: Sequence[str] = (),
        max_separated: int = 3,
        penalty: float = 0.01,
    ) -> Self:
        """Fit by maximum likelihood with an L2 penalty; every class weighs alike.

        Args:
            examples: features of each example, with the same names throughout.
            counts: how many people talk in each.
            separators: addresses of the models behind the features.
            max_separated: how many talkers the largest of them separates.
            penalty: weight of half the squared coefficients against the mean log-likelihood.
        """
        names = sorted(examples[0])
        values = np.array([[example[name] for name in names] for example in examples])
        classes, targets, sizes = np.unique(np.asarray(counts), return_inverse=True, return_counts=True)
        mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-6)
        inputs = (values - mean) / scale
        importance = (1.0 / (len(classes) * sizes))[targets]
        wanted = np.eye(len(classes))[targets]

        def loss(parameters: Matrix) -> tuple[float, Matrix]:
            matrix = parameters.reshape(len(classes), len(names) + 1)
            logs = log_softmax(inputs @ matrix[:, :-1].T + matrix[:, -1], axis=1)
            value = -np.sum(importance[:, None] * wanted * logs) + 0.5 * penalty * np.sum(matrix[:, :-1] ** 2)
            error = importance[:, None] * (np.exp(logs) - wanted)
            gradient = np.concatenate([error.T @ inputs + penalty * matrix[:, :-1], error.sum(axis=0)[:, None]], axis=1)
            return float(value), gradient.ravel()

        start = np.zeros(len(classes) * (len(names) + 1))
        solution = minimize(loss, start, jac=True, method="L-BFGS-B").x.reshape(len(classes), len(names) + 1)
        return cls(
            names,
            [int(number) for number in classes],
            mean,
            scale,
            solution[:, :-1],
            solution[:, -1],
            separators=separators,
            max_separated=max_separated,
        )

    def probabilities(self, features: dict[str, float]) -> Matrix:
        """Give the probability of each of ``classes``; raises ``ValueError`` when a feature is missing."""
        missing = sorted(set(self.feature_names) - set(features))
        if missing:
            raise ValueError(f"the classifier was fitted with other separators: it needs {missing[0]!r}")
        values = (np.array([features[name] for name in self.feature_names]) - self.mean) / self.scale
        # Far outside what was fitted a linear score runs away; there the nearest known value must do.
        scores = self.weights @ np.clip(values, -4.0, 4.0) + self.bias
        return np.asarray(softmax(scores))

    def decide(self, probabilities: Matrix) -> SpeakerCount:
        """Turn probabilities into a count: the likeliest, told as "at least" where it is beyond what can be told."""
        best = int(np.argmax(probabilities))
        number = self.classes[best]
        told = min(number, 3)
        return SpeakerCount(told, number > 3 or number > self.max_separated, float(probabilities[best]))

    def save(self, path: Path) -> None:
        """Write the coefficients as JSON."""
        values = {
            "format_version": FORMAT_VERSION,
            "separators": list(self.separators),
            "max_separated": self.max_separated,
            "classes": list(self.classes),
            "feature_names": list(self.feature_names),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
            "bias": self.bias.tolist(),
        }
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote; raises ``CheckpointError`` when it is missing, damaged or of another version."""
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format_version") != FORMAT_VERSION:
                raise CheckpointError(f"{path}: has another format version than {FORMAT_VERSION}; fit it again")
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{path}: is not a fitted speaker counter; fit it again") from error


def _ratio_db(power: float, reference: float) -> float:
    return max(_FLOOR_DB, 10.0 * float(np.log10(max(power, 1e-30) / max(reference, 1e-30))))


def _correlation(first: Matrix, second: Matrix) -> float:
    """Magnitude of the correlation; 0 where either is constant."""
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return abs(float(first @ second)) / norms if norms > 1e-12 else 0.0


def _centred_correlation(first: Matrix, second: Matrix) -> float:
    first, second = first - first.mean(), second - second.mean()
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms > 1e-12 else 0.0


def _voice(blocks: Matrix, sample_rate: int, fingerprint: Fingerprint) -> Matrix | None:
    """Unit-length fingerprint of (blocks, samples); None where there is less than 0.3 s."""
    if blocks.size < 0.3 * sample_rate:
        return None
    embedding = np.asarray(fingerprint(blocks.ravel().astype(np.float32), sample_rate), np.float64)
    length = float(np.linalg.norm(embedding))
    return embedding / length if length > 0.0 and np.isfinite(length) else None


def _similarity(first: Matrix | None, second: Matrix | None) -> float:
    """Cosine of two fingerprints; 0, which says nothing either way, where one is missing."""
    return 0.0 if first is None or second is None else float(first @ second)


def _constancy(blocks: Matrix, sample_rate: int, fingerprint: Fingerprint) -> float:
    """How alike the stretches of a track are, on average over pairs; 1 where there are not two."""
    size = max(1, round(_PIECE_SECONDS * sample_rate / blocks.shape[1]))
    # A dozen stretches spread over the track tell as much as all of them.
    starts = np.unique(np.linspace(0, max(0, len(blocks) - size), 12).astype(int) // size * size)
    voices = [_voice(blocks[start : start + size], sample_rate, fingerprint) for start in starts]
    known = [voice for voice in voices if voice is not None]
    if len(known) < 2:
        return 1.0
    return float(np.mean([first @ second for first, second in combinations(known, 2)]))
