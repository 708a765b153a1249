"""Sentences to measure synthesisers on: what people really said, and a clip of the voice that said it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auriscope.data.corpora import UNKNOWN_SPEAKER
from auriscope.data.pool import ClipPool
from auriscope.data.prepared import is_prepared
from auriscope.data.speech_pairs import SpeechPairsConfig, listed_speech
from auriscope.errors import CorpusError
from auriscope.text.normalise import letters

FloatArray = NDArray[np.float32]

MOST_SENTENCES = 50
"""Of a larger set so many are taken, which a small CPU speaks in minutes."""


@dataclass(frozen=True)
class Sentence:
    """A sentence as it is written, and ``recording`` (time,), a person saying it.

    ``voice`` (time,) is the longest other clip of the person; None where there is no other.
    """

    id: str
    text: str
    speaker: str
    recording: FloatArray
    voice: FloatArray | None


class SentenceSet:
    """A fixed sequence of sentences, each read when it is asked for.

    Those of a corpus with texts, or of a folder of transcribed speech that ``prepare`` wrote, in a split; of more than
    ``max_items`` those that are evenly spread over the list. Raises ``CorpusError`` when the corpus is missing or has
    no texts.
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        sample_rate: int = 16_000,
        max_items: int = MOST_SENTENCES,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        where = {"prepared": name} if is_prepared(name) else {"corpora": (name,)}
        config = SpeechPairsConfig(sample_rate=sample_rate, **where)
        self.name, self.split, self.sample_rate = name, split, sample_rate
        self._listed, stores = listed_speech(config, split, root, folder)
        self._pool = ClipPool(stores)
        said = [clip for clip, entry in enumerate(self._listed) if letters(entry.text or "")]
        if not said:
            raise CorpusError(f"the corpus {name!r} has no texts in the split {split!r}")
        places = np.linspace(0, len(said) - 1, min(max_items, len(said))).round().astype(int)
        self._clips = [said[place] for place in places]
        self._by_speaker: dict[str, list[int]] = {}
        for clip, entry in enumerate(self._listed):
            if entry.speaker.rpartition(":")[2] != UNKNOWN_SPEAKER:
                self._by_speaker.setdefault(entry.speaker, []).append(clip)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Sentence:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no sentence {index} of {len(self)}")
        clip = self._clips[index]
        entry = self._listed[clip]
        others = [other for other in self._by_speaker.get(entry.speaker, []) if other != clip]
        voice = self._pool.read(max(others, key=self._pool.num_frames)) if others else None
        return Sentence(entry.name, entry.text or "", entry.speaker, self._pool.read(clip), voice)

    def __iter__(self) -> Iterator[Sentence]:
        return (self[index] for index in range(len(self)))
