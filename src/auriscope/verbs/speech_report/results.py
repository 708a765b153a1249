"""What a report on a voice holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from auriscope.metrics.accumulate import Summary
from auriscope.metrics.wer import CharacterErrors, WordErrors, character_errors, word_errors
from auriscope.text.normalise import letters


@dataclass(frozen=True)
class SpeechItem:
    """A sentence that was spoken, and what was found out about it.

    ``sound`` and ``recording`` are the names of the files in the report's folder; the latter is the real voice with the
    same sentence, if there is one. ``attention_ok`` is what the attention tells in the end, ``first_try`` whether it
    was so at once and of the whole sentence; ``repeated`` and ``skipped`` are letters. ``heard`` and
    ``recording_heard`` are what the recogniser understood, None without one. ``similarity`` is the score of the
    speech with the real voice, ``recording_similarity`` that of the real voice with itself in other recordings, -1 to
    1.
    """

    name: str
    text: str
    spoken: str
    sound: str
    duration_seconds: float
    seconds_to_make: float
    attention_ok: bool
    first_try: bool
    repeated: int
    skipped: int
    heard: str | None = None
    similarity: float | None = None
    recording: str | None = None
    recording_heard: str | None = None
    recording_similarity: float | None = None


@dataclass(frozen=True)
class SpeechReport:
    """How good a voice is, sentence by sentence and in all.

    ``files`` are the page, the record, and the manifest of a listening study, in ``folder``. Errors of words and
    characters compare what was heard with what was to be said, in letters.
    """

    folder: str
    model: str
    vocoder: str
    voice: tuple[str, ...]
    seed: int
    sample_rate: int
    recognizer: str | None
    embedder: str | None
    items: tuple[SpeechItem, ...]
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def attention_share(self) -> float:
        """Share of the sentences whose attention is in order in the end."""
        return self._share(lambda item: item.attention_ok)

    @property
    def first_try_share(self) -> float:
        """Share of the sentences whose attention was in order at once."""
        return self._share(lambda item: item.first_try)

    @property
    def speed(self) -> float:
        """Seconds of speech in a second of work."""
        return sum(item.duration_seconds for item in self.items) / sum(item.seconds_to_make for item in self.items)

    @cached_property
    def word_errors(self) -> WordErrors | None:
        """The errors of the recogniser on the speech, in words."""
        pairs = self._pairs("heard")
        return word_errors(*pairs) if pairs else None

    @cached_property
    def character_errors(self) -> CharacterErrors | None:
        """The same in characters."""
        pairs = self._pairs("heard")
        return character_errors(*pairs) if pairs else None

    @cached_property
    def recording_character_errors(self) -> CharacterErrors | None:
        """The errors of the recogniser on the real recordings, in characters."""
        pairs = self._pairs("recording_heard")
        return character_errors(*pairs) if pairs else None

    @property
    def similarity(self) -> float | None:
        """The mean score of the speech with the real voice."""
        return _mean([item.similarity for item in self.items])

    @property
    def recording_similarity(self) -> float | None:
        """The mean score of the real voice with itself."""
        return _mean([item.recording_similarity for item in self.items])

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as plain values, totals included; errors are fractions."""
        values = dataclasses.asdict(self)
        return values | {
            "attention_share": self.attention_share,
            "first_try_share": self.first_try_share,
            "speed": self.speed,
            "wer": _rate(self.word_errors),
            "cer": _rate(self.character_errors),
            "recording_cer": _rate(self.recording_character_errors),
            "similarity": self.similarity,
            "recording_similarity": self.recording_similarity,
        }

    def _share(self, holds: Callable[[SpeechItem], bool]) -> float:
        return sum(map(holds, self.items)) / len(self.items)

    def _pairs(self, field: str) -> tuple[list[str], list[str]] | None:
        there = [item for item in self.items if getattr(item, field) is not None]
        if not there:
            return None
        return [letters(getattr(item, field)) for item in there], [letters(item.spoken) for item in there]


def interval(errors: WordErrors | CharacterErrors | None) -> Summary | None:
    """The error rate with its interval, sentences resampled; None with fewer than two of them."""
    return errors.interval() if errors is not None and len(errors.per_utterance) > 1 else None


def _rate(errors: WordErrors | CharacterErrors | None) -> float | None:
    return None if errors is None else errors.rate


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
