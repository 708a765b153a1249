"""Fit the default voice fingerprint on training speakers and measure it on test speakers (``--out`` also writes it).

Needs the real data in AURISCOPE_CORPORA. Half of the training pieces hear another voice 20 dB to 10 dB below, as the
outputs of a separator do.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np

from auriscope.separation.fingerprint import SpectralFingerprint, voice_statistics
from auriscope.signal.files import read

SAMPLE_RATE = 16000
TRAIN = ("libri_251spk", "commonvoice_en", "libri_other_10spk")
TEST = (*TRAIN, "libri_eval50_flac")
PIECES_PER_SPEAKER = 8


def pieces(corpora: tuple[str, ...], split: str, seconds: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Cut the utterances of a split into stretches: waveforms and their speakers."""
    found: list[np.ndarray] = []
    speakers: list[str] = []
    for corpus in corpora:
        folder = Path(os.environ["AURISCOPE_CORPORA"]) / corpus
        with (folder / "manifest.csv").open() as manifest:
            rows = [row for row in csv.DictReader(manifest) if row["split"] == split]
        for row in rows:
            waveform, _ = read(folder / row["path"], sample_rate=SAMPLE_RATE)
            size = round(seconds * SAMPLE_RATE)
            for start in range(0, len(waveform) - size + 1, size):
                if speakers.count(row["speaker"]) < PIECES_PER_SPEAKER:
                    found.append(waveform[start : start + size])
                    speakers.append(row["speaker"])
    return found, np.array(speakers)


def with_leaks(waveforms: list[np.ndarray], generator: np.random.Generator) -> list[np.ndarray]:
    """Let every second piece hear a leak of a random other piece."""
    leaky = []
    for index, waveform in enumerate(waveforms):
        other = waveforms[generator.integers(len(waveforms))]
        gain = 10.0 ** (generator.uniform(-20.0, -10.0) / 20.0) * waveform.std() / (other.std() + 1e-9)
        leaky.append(waveform + gain * other if index % 2 else waveform)
    return leaky


def equal_error(embeddings: np.ndarray, speakers: np.ndarray) -> tuple[float, float]:
    """Equal error rate over all pairs of pieces, and the similarity at which it is met."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    similarity, same = np.sum(unit[first] * unit[second], axis=1), speakers[first] == speakers[second]
    thresholds = np.linspace(-1.0, 1.0, 401)
    misses = np.searchsorted(np.sort(similarity[same]), thresholds) / same.sum()
    alarms = 1.0 - np.searchsorted(np.sort(similarity[~same]), thresholds) / (~same).sum()
    best = int(np.argmin(np.abs(misses - alarms)))
    return float(misses[best] + alarms[best]) / 2.0, float(thresholds[best])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the fitted fingerprint there")
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    statistics, speakers = [], []
    for seconds in (1.5, 3.0):
        waveforms, names = pieces(TRAIN, "train", seconds)
        statistics += [voice_statistics(waveform, SAMPLE_RATE) for waveform in with_leaks(waveforms, generator)]
        speakers += list(names)
    fingerprint = SpectralFingerprint.fit(np.array(statistics), np.array(speakers))
    print(f"fitted on {len(statistics)} pieces of {len(set(speakers))} speakers")
    for seconds in (1.0, 1.5, 3.0, 6.0):
        waveforms, names = pieces(TEST, "test", seconds)
        for label, heard in (("clean", waveforms), ("with leaks", with_leaks(waveforms, generator))):
            embeddings = np.array([fingerprint(waveform, SAMPLE_RATE) for waveform in heard])
            error, threshold = equal_error(embeddings, names)
            print(f"{seconds:4.1f} s {label:10s}: EER {100 * error:.1f} % at similarity {threshold:.2f}")
    if arguments.out:
        fingerprint.save(arguments.out)


if __name__ == "__main__":
    main()
