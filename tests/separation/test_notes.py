from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import mir_eval.transcription
import numpy as np
import pytest

from auriscope.data.pieces import Note, piano_notes, random_score, render_score
from auriscope.separation.notes import NOTE_DICTIONARY, learn_notes, transcribe_notes

QUICK = dataclasses.replace(NOTE_DICTIONARY, fit_iterations=30, iterations=30)


def _f1(score: list[Note], found: list[Note]) -> float:
    sides = []
    for notes in (score, found):
        sides.append(np.array([(note.onset_seconds, note.offset_seconds) for note in notes]).reshape(-1, 2))
        sides.append(440.0 * 2.0 ** ((np.array([note.midi for note in notes]) - 69) / 12))
    return float(mir_eval.transcription.precision_recall_f1_overlap(*sides, offset_ratio=None)[2])


def _string(midi: int, seconds: float = 2.0) -> np.ndarray:
    """A decaying tone with eight harmonics at 16 kHz."""
    moment = np.arange(round(16_000 * seconds)) / 16_000
    frequency = 440.0 * 2.0 ** ((midi - 69) / 12)
    tone = sum(np.sin(2 * np.pi * frequency * number * moment) / number for number in range(1, 9))
    return (tone * np.exp(-3 * moment) * np.minimum(1, moment / 0.005)).astype(np.float32)


def test_generated_strings() -> None:
    notes = {midi: _string(midi) for midi in (48, 55, 60, 64, 71)}
    score = random_score(list(notes), seed=1, duration_seconds=8.0)
    model = learn_notes(notes, QUICK)
    found = transcribe_notes(render_score(score, notes), model, list(notes))
    assert _f1(score, found) > 0.85


def test_scores_are_drawn_and_rendered_as_they_say() -> None:
    score = random_score([60, 64, 67], seed=3, duration_seconds=10.0)
    assert score == random_score([60, 64, 67], seed=3, duration_seconds=10.0)
    assert score != random_score([60, 64, 67], seed=4, duration_seconds=10.0)
    for midi in (60, 64, 67):
        own = [note for note in score if note.midi == midi]
        assert all(later.onset_seconds > earlier.offset_seconds for earlier, later in itertools.pairwise(own))
    one = Note(0.5, 1.0, 60)
    piece = render_score([one], {60: np.ones(32_000, dtype=np.float32)})
    assert not piece[:8000].any()
    assert (piece[8000:16_000] == 0.5).all()
    assert 0 < piece[16_600] < 0.5
    assert len(piece) == 16_000 + 1280


@pytest.mark.corpora
def test_a_piece_of_real_piano_notes(real_corpora: Path) -> None:
    notes = {midi: sound for midi, sound in piano_notes().items() if 45 <= midi <= 80}
    score = random_score(list(notes), seed=50, duration_seconds=10.0)
    model = learn_notes(notes, QUICK)
    assert _f1(score, transcribe_notes(render_score(score, notes), model, list(notes))) > 0.8
