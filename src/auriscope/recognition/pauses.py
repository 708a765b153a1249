"""Where words begin and end, from CTC's spikes and the pauses of the recording.

CTC says a letter once, somewhere in its sound or even before it, as a network that reads in both directions knows what
comes; after a word's last letter it says nothing new until the next word. So the spikes tell which word is where, but
not how long it lasts: A. Zeyer et al., "Why does CTC result in peaky behavior?" (arXiv 2105.14849). Here the edges of
the words are moved to the pauses between them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from auriscope.recognition.words import Word

FloatArray = NDArray[np.float32]
Pause = tuple[float, float]
"""Where a quiet stretch begins and ends, in seconds."""


@dataclass(frozen=True)
class PauseConfig:
    """What a pause is, and how words are moved to it.

    A recording's floor is the level under which it is for 5 % of the time, at the lowest ``range_db`` below the level
    above which it is for 5 %; quiet is what lies in the lowest ``share`` of what is between. Quiet stretches of at
    least ``min_seconds`` are pauses. They are looked for within ``reach_seconds`` of where CTC begins a word; where
    there is none, a word lasts until the next, yet for at most ``stretch_seconds`` after its last letter. The last
    word lasts until the next pause, if that is no further than both of these together.
    """

    frame_seconds: float = 0.01
    range_db: float = 60.0
    share: float = 0.15
    min_seconds: float = 0.04
    reach_seconds: float = 0.3
    stretch_seconds: float = 0.4


class PauseFinder:
    """Find the pauses of a recording that comes in blocks of any lengths, keeping a level for every frame."""

    def __init__(self, sample_rate: int, config: PauseConfig | None = None) -> None:
        self.config = config or PauseConfig()
        self._frame = max(1, round(self.config.frame_seconds * sample_rate))
        self._sample_rate = sample_rate
        self._left = np.empty(0, dtype=np.float32)
        self._levels: list[NDArray[np.float64]] = []

    def update(self, block: FloatArray) -> None:
        """Take the next block, (time,)."""
        waiting = np.concatenate((self._left, block))
        whole = len(waiting) // self._frame * self._frame
        frames = waiting[:whole].reshape(-1, self._frame).astype(np.float64)
        self._levels.append(10.0 * np.log10(np.square(frames).mean(1) + 1e-12))
        self._left = waiting[whole:]

    def pauses(self) -> list[Pause]:
        """The pauses so far, in order."""
        config = self.config
        levels = np.concatenate([*self._levels, np.empty(0)])
        if not len(levels):
            return []
        loud = float(np.percentile(levels, 95))
        floor = max(float(np.percentile(levels, 5)), loud - config.range_db)
        quiet = levels < floor + config.share * (loud - floor)
        seconds = self._frame / self._sample_rate
        edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2) * seconds
        return [(begin, end) for begin, end in edges.tolist() if end - begin >= config.min_seconds - 1e-9]


def settled(words: Sequence[Word], pauses: Sequence[Pause], config: PauseConfig | None = None) -> tuple[Word, ...]:
    """Give words the beginnings and ends that the pauses between them allow; the rest of them stays.

    ``words`` and ``pauses`` are in order of time. Of two words, the first ends and the second begins at the pause that
    is nearest to where CTC begins the second, if it leaves both of them some time.
    """
    config = config or PauseConfig()
    if not words:
        return ()
    begins = [word.start_seconds for word in words]
    starts = list(begins)
    ends = [
        max(word.end_seconds, min(following, word.end_seconds + config.stretch_seconds))
        for word, following in zip(words, [*begins[1:], words[-1].end_seconds], strict=True)
    ]
    for place, begin in enumerate(begins):
        earliest = starts[place - 1] if place else -np.inf
        latest = begins[place + 1] if place + 1 < len(begins) else np.inf
        pause = _nearest(pauses, begin, config.reach_seconds, earliest, latest)
        if pause is not None:
            starts[place] = pause[1]
            if place:
                ends[place - 1] = pause[0]
    # Nothing follows the last word: it sounds until the pause that its last letter falls into, or until the next one.
    for start, end in pauses[bisect_left(pauses, (starts[-1], np.inf)) :]:
        if end > ends[-1]:
            if start <= ends[-1] + config.reach_seconds + config.stretch_seconds:
                ends[-1] = start
            break
    return tuple(
        replace(word, start_seconds=start, end_seconds=max(start, end))
        for word, start, end in zip(words, starts, ends, strict=True)
    )


def _nearest(pauses: Sequence[Pause], moment: float, reach: float, earliest: float, latest: float) -> Pause | None:
    """Choose the pause nearest to a moment of those that begin after ``earliest`` and end before ``latest``."""
    # Pauses do not overlap: the only one that begins well before the moment and is near is the last of them.
    first = max(0, bisect_left(pauses, (moment - reach, -np.inf)) - 1)
    chosen, least = None, reach
    for start, end in pauses[first:]:
        if start > moment + reach:
            break
        away = max(0.0, start - moment, moment - end)
        if away <= least and earliest < start and end < latest:
            chosen, least = (start, end), away
    return chosen
