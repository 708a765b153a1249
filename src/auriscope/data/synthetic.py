"""Synthetic voices: speech-like sound from a source and moving resonances, for where there are no recordings.

Nobody could mistake them for people. They have what a separator works with: a pitch of their own that moves, formants
of their own, syllables, consonants of noise, and pauses.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from auriscope.data.corpora import Utterance

FloatArray = NDArray[np.float32]

_VERSION = 1
_SPEAKERS = {"train": 24, "valid": 6, "test": 6}
_UTTERANCES = 3
_SECONDS = 6.0
# First three formants of ten vowels, means of men: Peterson and Barney, "Control methods used in a study of the
# vowels", JASA 24, 1952, table II.
_FORMANTS = np.array(
    [
        [270, 2290, 3010],
        [390, 1990, 2550],
        [530, 1840, 2480],
        [660, 1720, 2410],
        [730, 1090, 2440],
        [570, 840, 2410],
        [440, 1020, 2240],
        [300, 870, 2240],
        [640, 1190, 2390],
        [490, 1350, 1690],
    ],
    dtype=np.float64,
)
_BANDWIDTHS = (70.0, 100.0, 150.0)


def voice(speaker: int, utterance: int, *, seconds: float, sample_rate: int) -> FloatArray:
    """Make an utterance of a synthetic speaker: (time,) float32 with a peak of 0.5.

    The same numbers give the same samples. A speaker has a mean pitch of 85 to 260 Hz, a vocal tract 0.9 to 1.25
    times as short as the mean man's, and a breathiness; an utterance has its own syllables, melody and pauses.
    """
    person = np.random.default_rng([_VERSION, speaker])
    pitch = float(np.exp(person.uniform(np.log(85.0), np.log(260.0))))
    tract = 0.9 + 0.35 * (np.log(pitch / 85.0) / np.log(260.0 / 85.0)) * person.uniform(0.7, 1.0)
    breath = person.uniform(0.01, 0.05)
    rng = np.random.default_rng([_VERSION, speaker, utterance])
    num_frames = round(seconds * sample_rate)
    waveform = np.zeros(num_frames)
    frame = round(rng.uniform(0.0, 0.2) * sample_rate)
    while frame < num_frames:
        syllable = _syllable(rng, pitch, tract, breath, sample_rate)[: num_frames - frame]
        waveform[frame : frame + len(syllable)] += syllable
        # Syllables follow one another closely; now and then there is a pause.
        gap_seconds = rng.uniform(0.15, 0.5) if rng.random() < 0.12 else rng.uniform(-0.03, 0.03)
        frame = max(frame + len(syllable) + round(gap_seconds * sample_rate), frame + 1)
    peak = np.abs(waveform).max()
    return (0.5 * waveform / peak).astype(np.float32) if peak > 0 else waveform.astype(np.float32)


def utterances(split: str) -> list[Utterance]:
    """List the utterances of the synthetic corpus: 24 speakers to train on, 6 others each to validate and test."""
    first = sum(_SPEAKERS[name] for name in list(_SPEAKERS)[: list(_SPEAKERS).index(split)])
    return [
        Utterance(
            corpus="synthetic",
            name=f"{speaker}-{number}",
            path=Path(f"{speaker}-{number}"),
            split=split,
            duration_seconds=_SECONDS,
            speaker=f"synthetic:{speaker}",
        )
        for speaker in range(first, first + _SPEAKERS[split])
        for number in range(_UTTERANCES)
    ]


def render(utterance: Utterance, sample_rate: int) -> FloatArray:
    """Make the sound (time,) of an utterance of :func:`utterances`."""
    speaker, number = (int(part) for part in utterance.name.split("-"))
    return voice(speaker, number, seconds=utterance.duration_seconds, sample_rate=sample_rate)


def key(split: str) -> str:
    """Give what tells this corpus from earlier versions of itself, for the cache."""
    text = f"synthetic {_VERSION} {split} {_SPEAKERS[split]} {_UTTERANCES} {_SECONDS}"
    return hashlib.sha256(text.encode()).hexdigest()


def _syllable(
    rng: np.random.Generator, pitch: float, tract: float, breath: float, sample_rate: int
) -> NDArray[np.float64]:
    """A consonant of noise (or none) and a vowel that glides into another."""
    seconds = rng.uniform(0.12, 0.32)
    num_frames = round(seconds * sample_rate)
    position = np.linspace(0.0, 1.0, num_frames)
    contour = pitch * np.exp(rng.normal(0.0, 0.08) + rng.normal(0.0, 0.1) * position)
    phase = np.cumsum(contour / sample_rate)
    # A pulse at every period, softened to -12 dB per octave by two leaky integrators: the glottis in its simplest form.
    pulses = np.diff(np.floor(phase), prepend=0.0) + breath * rng.standard_normal(num_frames)
    source = lfilter([1.0], [1.0, -0.94], pulses)
    vowels = _FORMANTS[rng.integers(len(_FORMANTS), size=2)] * tract
    parts = np.array_split(np.arange(num_frames), 8)
    vowel = np.zeros(num_frames)
    for formant, bandwidth in enumerate(_BANDWIDTHS):
        state = np.zeros(2)
        track = np.empty(num_frames)
        for number, part in enumerate(parts):
            share = number / (len(parts) - 1)
            centre = (1.0 - share) * vowels[0, formant] + share * vowels[1, formant]
            radius = np.exp(-np.pi * bandwidth / sample_rate)
            poles = [1.0, -2.0 * radius * np.cos(2.0 * np.pi * min(centre / sample_rate, 0.49)), radius**2]
            track[part], state = lfilter([1.0 - radius], poles, source[part], zi=state)
        vowel += track / (formant + 1)
    vowel *= np.sin(np.pi * np.clip(position, 0.0, 1.0)) ** 0.5 * rng.uniform(0.5, 1.0)
    if rng.random() < 0.5:
        return vowel
    length = round(rng.uniform(0.04, 0.1) * sample_rate)
    edge = rng.uniform(0.3, 0.9)
    hiss = lfilter([1.0, -edge], [1.0], rng.standard_normal(length)) * np.hanning(length)
    loudness = rng.uniform(0.05, 0.2) * np.abs(vowel).max(initial=1e-6)
    return np.concatenate([loudness * hiss / np.abs(hiss).max(initial=1e-6), vowel])
