"""Fit the indicator of one voice (``auriscope.study.voices``) on real talkers, and say how often it is right.

Recordings are made from the corpora in the folder that ``AURISCOPE_CORPORA`` names: one talker, or two at once whose
levels differ by up to 6 dB; six in ten in rooms, all in noise 10 to 45 dB below. Speakers, rooms and noises of the
figures were not used to fit. The corpora marked "unseen" were not used at all.

    AURISCOPE_CORPORA=… python benchmarks/one_voice.py
"""

from __future__ import annotations

import csv
import os
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import fftconvolve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from auriscope.study.voices import FEATURES, LIMIT, measure, probability_of_two

RATE = 16_000
FITTED = ("libri_251spk", "commonvoice_en")
UNSEEN = ("libri_other_10spk", "libri_readers_3spk", "commonvoice_multi")
ROOT = Path(os.environ.get("AURISCOPE_CORPORA", "."))


def rows(corpus: str) -> list[dict[str, str]]:
    with (ROOT / corpus / "manifest.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def read(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == RATE, f"{path} has a rate of {rate} Hz"
    return samples.mean(axis=1)


def level(signal: np.ndarray) -> np.ndarray:
    return signal / (np.sqrt(np.mean(signal**2)) + 1e-9)


class Recordings:
    """Draws recordings of one and of two talkers, with one half of the rooms and noises."""

    def __init__(self, seed: int, part: int) -> None:
        self._random = np.random.default_rng(seed)
        self._rooms = [ROOT / "rir" / row["path"] for row in rows("rir")][part::2]
        self._noises = [ROOT / "noise" / row["path"] for row in rows("noise")][part::2]

    def _choose(self, paths: list[Path]) -> np.ndarray:
        return read(paths[self._random.integers(len(paths))])

    def _cut(self, signal: np.ndarray, count: int) -> np.ndarray:
        start = self._random.integers(0, max(1, len(signal) - count + 1))
        return signal[start : start + count]

    def make(self, talkers: list[np.ndarray]) -> np.ndarray:
        """Mix talkers, (time,) each, as they might be recorded."""
        count = round(self._random.uniform(3, 10) * RATE)
        in_room = self._random.random() < 0.6
        mixture = np.zeros(count, np.float32)
        for number, talker in enumerate(talkers):
            voice = self._cut(talker, count)
            if in_room:
                voice = fftconvolve(voice, self._choose(self._rooms))[: len(voice)]
            gain = 10 ** (self._random.uniform(-6, 6) / 20) if number else 1.0
            mixture[: len(voice)] += gain * level(voice)
        mixture = mixture[: max(min(len(talker), count) for talker in talkers)]
        noise = level(np.resize(self._choose(self._noises), len(mixture)))
        mixture = level(mixture) + 10 ** (-self._random.uniform(10, 45) / 20) * noise
        return (0.05 * mixture).astype(np.float32)

    def draw(self, clips: list[tuple[str, Path]], count: int) -> tuple[np.ndarray, np.ndarray]:
        """Measure recordings, half of them of two talkers; give the measures, and which those are."""
        features, answers = [], []
        while len(answers) < count:
            first, second = (clips[index] for index in self._random.integers(len(clips), size=2))
            pair = [read(first[1]), read(second[1])]
            if first[0] == second[0] or min(map(len, pair)) < 2.5 * RATE:
                continue
            for num_talkers in (1, 2):
                found = measure(self.make(pair[:num_talkers]), RATE)
                if found is not None:
                    features.append(found)
                    answers.append(num_talkers == 2)
        return np.array(features), np.array(answers)


def clips_of(corpus: str, part: int | None = None) -> list[tuple[str, Path]]:
    found = [(row["speaker"], ROOT / corpus / row["path"]) for row in rows(corpus)]
    if part is None:
        return found
    chosen = set(sorted({speaker for speaker, _ in found})[part::2])
    return [clip for clip in found if clip[0] in chosen]


def main() -> None:
    drawn = [Recordings(1, 0).draw(clips_of(corpus, 0), 1000) for corpus in FITTED]
    features, answers = (np.concatenate(part) for part in zip(*drawn, strict=True))
    mean, spread = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression(C=1.0).fit((features - mean) / spread, answers)
    weights = model.coef_[0] / spread
    bias = float(model.intercept_[0] - weights @ mean)
    print("fitted now:", f"_BIAS = {bias:.3f}", "_WEIGHTS =", [float(f"{weight:.4g}") for weight in weights])
    for name, weight in zip(FEATURES, model.coef_[0], strict=True):
        print(f"  {name:20} {weight:+.2f} per standard deviation")
    header = ("area under ROC", "right at 0.5", f"single talkers found at {LIMIT}", "pairs wrongly suspected")
    print(f"{'the package, on':36}", *(f"{title:>30}" for title in header))
    for corpus, part in [*((corpus, 1) for corpus in FITTED), *((corpus, None) for corpus in UNSEEN)]:
        features, answers = Recordings(2, 1).draw(clips_of(corpus, part), 300)
        chance = np.array([probability_of_two(values) for values in features])
        figures = (
            roc_auc_score(answers, chance),
            np.mean((chance > 0.5) == answers),
            np.mean(chance[~answers] < LIMIT),
            np.mean(chance[answers] < LIMIT),
        )
        name = f"{corpus} ({'unseen' if part is None else 'other speakers'})"
        print(f"{name:36}", *(f"{figure:30.2f}" for figure in figures))


if __name__ == "__main__":
    main()
