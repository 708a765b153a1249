"""Utterances whose letters have times: the place in the text that each frame is at, and where to cut at a pause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

PAUSE_SECONDS = 0.3
"""From the middle of one letter to that of the next this is a pause: letters follow each other in half of it."""

END_SECONDS = 0.1
"""For so long a phrase is at the end of its text: as long as the last letter fades."""

Times = Sequence[tuple[int, float]]
"""Places in a text and the seconds when they were said, both in order."""


@dataclass(frozen=True)
class Phrase:
    """A stretch of an utterance: what is said from ``start_seconds`` to ``end_seconds``, and the times within it."""

    text: str
    start_seconds: float
    end_seconds: float
    times: Times


def phrases(text: str, times: Times, seconds: float, shortest_seconds: float) -> list[Phrase]:
    """Cut an utterance of ``seconds`` in the middle of its pauses, into phrases of ``shortest_seconds`` or more.

    A pause is where a space is and ``PAUSE_SECONDS`` pass. Nothing is cut off that would be shorter. Without times
    there is one phrase.
    """
    cuts = [(0, 0.0)]
    for (place, before), (following, after) in pairwise(times):
        middle = (before + after) / 2.0
        space = text.find(" ", place + 1, following)
        long_enough = middle - cuts[-1][1] >= shortest_seconds and seconds - middle >= shortest_seconds
        if space >= 0 and after - before >= PAUSE_SECONDS and long_enough:
            # Punctuation before the space ends the phrase.
            cuts.append((space + 1, middle))
    ends = [*cuts[1:], (len(text), seconds)]
    found = []
    for (first, start), (last, end) in zip(cuts, ends, strict=True):
        own = [(place - first, second - start) for place, second in times if first <= place < last]
        found.append(Phrase(text[first:last].rstrip(), start, end, own))
    return found


def path(num_tokens: int, times: Times, num_frames: int, frame_seconds: float) -> NDArray[np.float32]:
    """Give the place in the text that each frame (num_frames,) is at, evenly between the times that are known.

    The first frame begins at place 0, and the last ``END_SECONDS`` are at ``num_tokens``, the end of the text, so that
    there is something to tell that it has been reached.
    """
    end = num_frames * frame_seconds
    reached = max(end - END_SECONDS, times[-1][1] if times else 0.0)
    known = [(0, 0.0), *times, (num_tokens, reached), (num_tokens, end)]
    places, seconds = zip(*known, strict=True)
    found = np.interp((np.arange(num_frames) + 0.5) * frame_seconds, seconds, places)
    return np.asarray(found, dtype=np.float32)
