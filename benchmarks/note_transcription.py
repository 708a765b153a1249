"""Note F1 of transcription by NMF, on polyphonic pieces mixed from `piano_notes` with their scores.

    python benchmarks/note_transcription.py [--pieces 10] [--divergence kullback-leibler]

Prints the mean precision, recall and F1 over the pieces with 95 % bootstrap intervals: onsets within 50 ms and pitches
within 50 cents (mir_eval.transcription, offsets left out), and the same with offsets. The pieces hold the recordings
that the dictionary was learnt from, at other levels and lengths: the corpus has one of each note.
"""

from __future__ import annotations

import argparse
import dataclasses

import mir_eval.transcription
import numpy as np

from auriscope.data.pieces import Note, piano_notes, random_score, render_score
from auriscope.metrics.accumulate import summarize
from auriscope.nn.nmf import DIVERGENCES
from auriscope.separation.notes import NOTE_DICTIONARY, learn_notes, transcribe_notes


def main() -> None:
    """Learn the notes, transcribe the pieces, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pieces", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--divergence", choices=DIVERGENCES, default=NOTE_DICTIONARY.divergence)
    options = parser.parse_args()
    notes = piano_notes()
    model = learn_notes(notes, dataclasses.replace(NOTE_DICTIONARY, divergence=options.divergence))
    figures: dict[str, list[float]] = {}
    total = 0
    for seed in range(options.first_seed, options.first_seed + options.pieces):
        score = random_score(list(notes), seed=seed)
        total += len(score)
        found = transcribe_notes(render_score(score, notes), model, list(notes))
        for what, ratio in (("onsets", None), ("onsets and offsets", 0.2)):
            values = mir_eval.transcription.precision_recall_f1_overlap(
                *_arrays(score), *_arrays(found), offset_ratio=ratio
            )
            for name, value in zip(("precision", "recall", "F1"), values, strict=False):
                figures.setdefault(f"{name}, {what}", []).append(value)
    print(f"{options.pieces} pieces of 20 s, {total} notes of {len(notes)} pitches, divergence {options.divergence}")
    for name, values in figures.items():
        summary = summarize(values)
        print(f"| {name} | {summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}] |")


def _arrays(score: list[Note]) -> tuple[np.ndarray, np.ndarray]:
    times = np.array([(note.onset_seconds, note.offset_seconds) for note in score]).reshape(-1, 2)
    return times, 440.0 * 2.0 ** ((np.array([note.midi for note in score]) - 69) / 12)


if __name__ == "__main__":
    main()
