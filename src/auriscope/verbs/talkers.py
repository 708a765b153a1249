"""Counting the talkers of a file: an excerpt of it, the separators, and the fitted decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from auriscope.errors import AuriscopeError
from auriscope.separation.counting import SHIPPED_COUNTER, CountClassifier, SpeakerCount, estimate_num_speakers
from auriscope.separation.joining import Array
from auriscope.separation.long import Separator
from auriscope.signal.files import AudioReader

EXCERPT_SECONDS = 90.0
_STRETCHES = 5
_PAUSE_SECONDS = 2.0


class TalkerCounter:
    """Counts the talkers of files; ``loader`` maps a model's address to the model."""

    def __init__(self, classifier: CountClassifier, separators: Sequence[Separator]) -> None:
        self._classifier = classifier
        self._separators = separators

    @classmethod
    def shipped(cls, loader: Callable[[str], Separator]) -> TalkerCounter:
        """Load the shipped decision and the separators it was fitted with; raises ``AuriscopeError`` without them."""
        if not SHIPPED_COUNTER.is_file():
            raise AuriscopeError("no speaker counter is installed; give the number of talkers instead of auto")
        classifier = CountClassifier.load(SHIPPED_COUNTER)
        return cls(classifier, [loader(address) for address in classifier.separators])

    def count(self, path: Path, *, channel: int | None = None) -> SpeakerCount:
        """Count the talkers of a file; raises ``AudioFileError`` when it cannot be read."""
        sample_rate = int(self._separators[0].config.sample_rate)
        excerpt = read_excerpt(path, sample_rate, channel=channel)
        return estimate_num_speakers(excerpt, self._separators, self._classifier, sample_rate=sample_rate)


def read_excerpt(path: Path, sample_rate: int, *, channel: int | None = None) -> Array:
    """Read a file whole, or, beyond ``EXCERPT_SECONDS``, stretches spread over it with pauses between them.

    Returns:
        (time,) float32 at ``sample_rate`` Hz.
    """
    with AudioReader(path, sample_rate=sample_rate, channel=channel) as reader:
        duration = reader.info.duration_seconds
        block = sample_rate * 10
        if duration <= EXCERPT_SECONDS:
            return np.concatenate(list(reader.blocks(block)))
        seconds = EXCERPT_SECONDS / _STRETCHES
        pause: Array = np.zeros(round(_PAUSE_SECONDS * sample_rate), np.float32)
        parts: list[Array] = []
        for start in np.linspace(0.0, duration - seconds, _STRETCHES):
            parts += [*reader.blocks(block, start_seconds=float(start), duration_seconds=seconds), pause]
        return np.concatenate(parts)
