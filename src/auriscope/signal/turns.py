"""Turns: who speaks from when to when. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class SpeakerTurn(NamedTuple):
    """One person speaking without a break, from ``start_seconds`` to ``end_seconds`` of a recording."""

    speaker: str
    start_seconds: float
    end_seconds: float

    @property
    def duration_seconds(self) -> float:
        """How long the turn lasts."""
        return self.end_seconds - self.start_seconds


def joined(turns: Iterable[SpeakerTurn], *, max_gap_seconds: float = 0.0) -> list[SpeakerTurn]:
    """Join the turns of each speaker that overlap or touch, or pause for no longer than ``max_gap_seconds``.

    Empty turns are left out. The result is in order of time; turns of different speakers may overlap.

    >>> turns = [SpeakerTurn("a", 2.0, 3.0), SpeakerTurn("a", 0.0, 2.0), SpeakerTurn("b", 1.0, 1.5)]
    >>> [tuple(turn) for turn in joined(turns)]
    [('a', 0.0, 3.0), ('b', 1.0, 1.5)]
    """
    found: list[SpeakerTurn] = []
    last: dict[str, int] = {}
    for turn in sorted(turns, key=lambda turn: (turn.start_seconds, turn.end_seconds, turn.speaker)):
        if turn.end_seconds <= turn.start_seconds:
            continue
        index = last.get(turn.speaker)
        if index is not None and turn.start_seconds - found[index].end_seconds <= max_gap_seconds:
            found[index] = found[index]._replace(end_seconds=max(found[index].end_seconds, turn.end_seconds))
        else:
            last[turn.speaker] = len(found)
            found.append(turn)
    return found
