"""Transcription of notes by NMF: which pitches sound when, from the activations of a dictionary learnt note by note.

P. Smaragdis, J. Brown, "Non-negative matrix factorization for polyphonic music transcription", WASPAA 2003, with the
dictionary learnt on isolated notes (as in B. Niedermayer, "Non-negative matrix division for the automatic transcription
of polyphonic music", ISMIR 2008). What the sources leave open: a note is struck where its activation rises, within 50
ms, by more than a share of the largest rise of the recording, and is released where it has fallen by a share of what
it reached.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from auriscope.data.pieces import Note
from auriscope.separation.nmf import NMF, NMFConfig

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NoteConfig:
    """How notes are read from activations; chosen on two pieces that no figure is measured on.

    ``rise`` is the share of the recording's largest rise that an onset needs, ``held`` the share of its peak above
    which a note still sounds, ``rise_seconds`` the time within which it rises, ``gap_seconds`` the shortest time
    between two onsets of one pitch.
    """

    rise: float = 0.25
    held: float = 0.1
    rise_seconds: float = 0.05
    gap_seconds: float = 0.1


NOTE_DICTIONARY = NMFConfig(num_components=2, window_length=2048, hop_length=256, fit_iterations=100, iterations=60)
"""Windows of 128 ms at 16 kHz, which tell the semitones of all but the lowest octave apart, every 16 ms."""


def learn_notes(recordings: Mapping[int, FloatArray], config: NMFConfig = NOTE_DICTIONARY) -> NMF:
    """Learn a dictionary with the spectra of every note from recordings of it, (time,) each, by MIDI number.

    The sources of the model are the notes in the order of the mapping; ``config.num_sources`` is theirs.
    """
    longest = max(len(waveform) for waveform in recordings.values())
    sources = torch.zeros(1, len(recordings), longest)
    for row, waveform in enumerate(recordings.values()):
        sources[0, row, : len(waveform)] = torch.from_numpy(waveform)
    return NMF(dataclasses.replace(config, num_sources=len(recordings))).fit(sources)


def transcribe_notes(
    waveform: FloatArray, model: NMF, pitches: list[int], config: NoteConfig | None = None
) -> list[Note]:
    """Transcribe a recording (time,) at the model's rate into notes, by onset; ``pitches`` are those of its sources."""
    config = config or NoteConfig()
    with torch.no_grad():
        loudness = model.activations(torch.from_numpy(waveform).unsqueeze(0))[0].sum(1)
    step = model.config.hop_length / model.config.sample_rate
    reach = max(1, round(config.rise_seconds / step))
    rises = _rises(loudness, reach)
    threshold = config.rise * float(rises.max())
    notes = []
    for row, pitch in enumerate(pitches):
        onsets = _peaks(rises[row].numpy(), threshold, max(1, round(config.gap_seconds / step)))
        for number, frame in enumerate(onsets):
            following = onsets[number + 1] if number + 1 < len(onsets) else loudness.shape[1]
            stretch = loudness[row, frame:following]
            top = int(stretch[: 2 * reach + 1].argmax())
            quiet = (stretch[top:] < config.held * stretch[top]).nonzero()
            end = frame + top + (int(quiet[0]) if len(quiet) else len(stretch) - top)
            level = 20.0 * float(torch.log10(stretch[top] / loudness.max()))
            notes.append(Note(frame * step, end * step, pitch, level))
    return sorted(notes, key=lambda note: (note.onset_seconds, note.midi))


def _rises(loudness: Tensor, reach: int) -> Tensor:
    """How much each row (notes, frames) grows from ``reach`` frames around, half of them before and half after."""
    before, after = (reach + 1) // 2, reach // 2 + 1
    padded = torch.nn.functional.pad(loudness, (before, after), mode="replicate")
    return (padded[:, before + after :] - padded[:, : -(before + after)]).clamp(min=0)


def _peaks(values: npt.NDArray[np.float32], threshold: float, gap: int) -> list[int]:
    """Frames at which the values are above the threshold and the largest within ``gap`` frames on both sides."""
    found: list[int] = []
    for frame in np.flatnonzero(values > threshold).tolist():
        around = values[max(0, frame - gap) : frame + gap + 1]
        if values[frame] == around.max() and (not found or frame - found[-1] > gap):
            found.append(frame)
    return found
