"""Polyphonic pieces mixed from recordings of single notes, with their score: what transcription is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auriscope.data.corpora import corpora_root
from auriscope.data.manifest import read_manifest
from auriscope.signal.files import read

FloatArray = npt.NDArray[np.float32]
_RELEASE_SECONDS = 0.08


@dataclass(frozen=True)
class Note:
    """A note of a score: when it begins and is released, its pitch (60 is middle C), and its level."""

    onset_seconds: float
    offset_seconds: float
    midi: int
    level_db: float = 0.0


def piano_notes(sample_rate: int = 16_000) -> dict[int, FloatArray]:
    """Read the single notes of the corpus ``piano_notes``, by their MIDI number; each begins with its onset."""
    folder = corpora_root() / "piano_notes"
    entries = read_manifest(folder / "manifest.csv")
    return {int(entry.more["midi"]): read(folder / entry.path, sample_rate=sample_rate)[0] for entry in entries}


def random_score(
    pitches: Sequence[int], *, seed: int, duration_seconds: float = 20.0, notes_per_second: float = 4.0
) -> list[Note]:
    """Draw a score: chords of one to four of the pitches, half a second apart in the mean, of 0.3 to 1.5 s each.

    Levels are within 6 dB of each other; no pitch is struck again while it sounds. Sorted by onset.
    """
    rng: Any = np.random.default_rng(seed)
    notes: list[Note] = []
    free = dict.fromkeys(pitches, 0.0)
    moment = 0.2
    while moment < duration_seconds - 0.5:
        size = int(rng.integers(1, 5))
        silent = [pitch for pitch in pitches if free[pitch] <= moment]
        for pitch in rng.choice(silent, min(size, len(silent)), replace=False):
            offset = min(moment + rng.uniform(0.3, 1.5), duration_seconds)
            notes.append(Note(moment, offset, int(pitch), float(rng.uniform(-6.0, 0.0))))
            free[int(pitch)] = offset + 0.1
        moment += rng.uniform(0.5, 1.5) * 2.5 / notes_per_second
    return notes


def render_score(score: Sequence[Note], notes: Mapping[int, FloatArray], *, sample_rate: int = 16_000) -> FloatArray:
    """Mix a score from recordings of its notes; (time,) float32 with a peak of 0.5.

    A note that is released fades within 80 ms, as a damped string does.
    """
    release = round(_RELEASE_SECONDS * sample_rate)
    length = round(max(note.offset_seconds for note in score) * sample_rate) + release
    mixture = np.zeros(length, dtype=np.float32)
    for note in score:
        begin, end = round(note.onset_seconds * sample_rate), round(note.offset_seconds * sample_rate)
        sound = notes[note.midi][: end - begin + release].copy()
        if len(sound) > end - begin:
            tail = sound[end - begin :]
            tail *= np.linspace(1.0, 0.0, release, dtype=np.float32)[: len(tail)]
        mixture[begin : begin + len(sound)] += np.float32(10.0 ** (note.level_db / 20.0)) * sound
    return mixture * np.float32(0.5 / np.abs(mixture).max())
