"""Sets of utterances to measure recognition on, clean or as real life would have recorded them.

Under the name of a set with a condition behind it, ``libri_eval50_flac-noisy-reverb``, stands the same speech with what
the corpora ``noise`` and ``rir`` hold in that split: noises, houses and halls that no training split has.

- ``-reverb``: a measured room; a kind of room (house, warehouse) is drawn as often as it has positions
- ``-noisy``: noise 5 dB below the speech, over the whole utterance
- ``-noisy-reverb``: both, the speech in the room being what the noise is measured against

What an utterance gets depends on its name and the split alone: it is the same on every machine, whichever other
utterances there are, and the conditions share it. Room and noise leave the speech in its place and as loud as it was.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from auriscope.data.augmentation import in_room, turned_up, with_noise
from auriscope.data.pool import noise_store
from auriscope.data.render import looped, rms
from auriscope.data.rooms import measured_rooms

FloatArray = NDArray[np.float32]
_T = TypeVar("_T")

CONDITIONS = ("noisy-reverb", "noisy", "reverb")
SNR_DB = 5.0
_SEED = 2028
# A noise that begins in a pause of its recording is looked for elsewhere: short utterances would have none.
_QUIET = 1e-4


@dataclass(frozen=True)
class Spoken:
    """An utterance to measure on: ``waveform`` (time,) float32, and what is said, in letters."""

    id: str
    waveform: FloatArray
    text: str
    speaker: str


class SpokenSet:
    """A fixed sequence of utterances, each read when it is asked for; ``seconds`` are their lengths."""

    def __init__(self, name: str, split: str, read: Callable[[int], Spoken], seconds: Sequence[float]) -> None:
        self.name, self.split, self.seconds = name, split, tuple(seconds)
        self._read = read

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, index: int) -> Spoken:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no utterance {index} of {len(self)}")
        return self._read(index)

    def __iter__(self) -> Iterator[Spoken]:
        return (self[index] for index in range(len(self)))


def clean_name(name: str) -> tuple[str, str]:
    """Take the condition off the name of a set.

    >>> clean_name("libri_eval50_flac-noisy-reverb"), clean_name("digits")
    (('libri_eval50_flac', 'noisy-reverb'), ('digits', ''))
    """
    for condition in CONDITIONS:
        if name.endswith(f"-{condition}"):
            return name.removesuffix(f"-{condition}"), condition
    return name, ""


def corrupted(
    clean: SpokenSet, condition: str, *, sample_rate: int, root: Path | None = None, folder: Path | None = None
) -> SpokenSet:
    """Put a set under one of ``CONDITIONS``; ``CorpusError`` when noises or rooms are wanted and not there."""
    noises = rooms = None
    if "noisy" in condition:
        noises = noise_store(clean.split, sample_rate=sample_rate, root=root, folder=folder)
    if "reverb" in condition:
        rooms = measured_rooms(clean.split, sample_rate=sample_rate, root=root, folder=folder)

    def read(index: int) -> Spoken:
        spoken = clean[index]
        waveform = spoken.waveform
        if rooms is not None:
            uniform = _numbers(spoken, clean.split, "room")
            places = _pick([group for group in rooms.groups for _ in group], uniform())
            waveform = in_room(waveform, rooms.store.read(_pick(_pick(places, uniform()), uniform())))
        if noises is not None:
            uniform = _numbers(spoken, clean.split, "noise")
            noise = np.zeros_like(waveform)
            for _ in range(100):
                clip = int(uniform() * len(noises))
                noise = looped(noises.read(clip), int(uniform() * noises.num_frames(clip)), len(waveform))
                if rms(noise) > _QUIET:
                    break
            waveform = with_noise(waveform, noise, SNR_DB)
        return dataclasses.replace(spoken, waveform=turned_up(waveform, 0.0))

    return SpokenSet(f"{clean.name}-{condition}", clean.split, read, clean.seconds)


def _numbers(spoken: Spoken, split: str, purpose: str) -> Callable[[], float]:
    # Only random() of Python's generator is promised to give the same numbers for ever, in all versions.
    return random.Random(f"{_SEED} {purpose} {split} {spoken.id}").random


def _pick(items: Sequence[_T], share: float) -> _T:
    return items[int(share * len(items))]
