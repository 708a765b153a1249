"""Diarization error: who spoke when, found against true. Needs no torch.

The error is the time for which somebody was missed, somebody was heard who did not speak, or one speaker was taken for
another, over the time that people spoke; two who speak at once count twice. Speakers have no names: those found are
mapped to the true ones so that as much time as possible agrees (the Hungarian algorithm).

Source: NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", section 6, and its program
``md-eval``; H. Bredin, "pyannote.metrics" (Interspeech 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from auriscope.metrics.accumulate import Summary, summarize_ratio
from auriscope.signal.turns import SpeakerTurn, joined

Span = tuple[float, float]
"""Where a stretch begins and where it ends, in seconds."""


@dataclass(frozen=True)
class DiarizationErrors:
    """How long what went wrong, in seconds, against how long people spoke, each speaker counted for himself.

    ``missed``: nobody was found for somebody who speaks; ``false_alarm``: somebody was found where nobody, or fewer
    people, speak; ``confusion``: somebody was found, but the wrong one. ``mapping``: found speaker to true speaker,
    without those that stand for nobody. The errors of several recordings are added with ``+``; names are of no use
    then, and ``mapping`` is empty.
    """

    missed_seconds: float
    false_alarm_seconds: float
    confusion_seconds: float
    total_seconds: float
    mapping: dict[str, str] = field(default_factory=dict)

    @property
    def error_seconds(self) -> float:
        """All that went wrong."""
        return self.missed_seconds + self.false_alarm_seconds + self.confusion_seconds

    @property
    def rate(self) -> float:
        """The diarization error rate as a fraction; it may be above 1.

        Where nobody speaks it is 0 if nobody was found either, and else infinite.
        """
        if self.total_seconds > 0.0:
            return self.error_seconds / self.total_seconds
        return 0.0 if self.error_seconds == 0.0 else float("inf")

    def __add__(self, other: DiarizationErrors) -> DiarizationErrors:
        return DiarizationErrors(
            self.missed_seconds + other.missed_seconds,
            self.false_alarm_seconds + other.false_alarm_seconds,
            self.confusion_seconds + other.confusion_seconds,
            self.total_seconds + other.total_seconds,
        )


def diarization_errors(
    found: Sequence[SpeakerTurn],
    reference: Sequence[SpeakerTurn],
    *,
    collar_seconds: float = 0.0,
    skip_overlap: bool = False,
    scored: Sequence[Span] | None = None,
) -> DiarizationErrors:
    """Compare who was found to speak when with who does.

    Turns of one speaker that overlap or touch are one turn.

    Args:
        found: the turns to judge, in any order.
        reference: the true turns.
        collar_seconds: what is not scored before and after each beginning and end of a true turn, as NIST counts it:
            0.25 is customary. (pyannote.metrics states the whole width, 0.5.)
        skip_overlap: score only where at most one person truly speaks.
        scored: the stretches to score; by default from the first beginning to the last end, of both.

    >>> one, two = SpeakerTurn("one", 0.0, 6.0), SpeakerTurn("two", 6.0, 10.0)
    >>> errors = diarization_errors([SpeakerTurn("A", 0.0, 5.0), SpeakerTurn("B", 5.0, 10.0)], [one, two])
    >>> errors.rate, errors.mapping
    (0.1, {'A': 'one', 'B': 'two'})
    """
    if collar_seconds < 0.0:
        raise ValueError(f"collar_seconds must not be below 0, and is {collar_seconds}")
    found, reference = joined(found), joined(reference)
    everything = [*found, *reference]
    if not everything:
        return DiarizationErrors(0.0, 0.0, 0.0, 0.0)
    if scored is None:
        scored = [(min(turn.start_seconds for turn in everything), max(turn.end_seconds for turn in everything))]
    edges = [time for turn in reference for time in (turn.start_seconds, turn.end_seconds)]
    collars = [(time - collar_seconds, time + collar_seconds) for time in edges] if collar_seconds else []
    spans = [*((turn.start_seconds, turn.end_seconds) for turn in everything), *scored, *collars]
    # Between two neighbouring times nothing changes.
    times = np.unique(np.array(spans, dtype=np.float64))
    seconds = np.diff(times)
    counted = _covered(times, scored) & ~_covered(times, collars)
    true_names, true = _activity(times, reference)
    found_names, heard = _activity(times, found)
    if skip_overlap:
        counted &= true.sum(axis=0) < 2
    seconds, true, heard = seconds[counted], true[:, counted], heard[:, counted]
    together = (heard * seconds) @ true.T.astype(np.float64)
    rows, columns = linear_sum_assignment(together, maximize=True)
    pairs = [(row, column) for row, column in zip(rows, columns, strict=True) if together[row, column] > 0.0]
    correct = np.zeros(len(seconds))
    for row, column in pairs:
        correct += heard[row] & true[column]
    num_true, num_heard = true.sum(axis=0), heard.sum(axis=0)
    return DiarizationErrors(
        missed_seconds=float(seconds @ np.maximum(num_true - num_heard, 0)),
        false_alarm_seconds=float(seconds @ np.maximum(num_heard - num_true, 0)),
        confusion_seconds=float(seconds @ (np.minimum(num_true, num_heard) - correct)),
        total_seconds=float(seconds @ num_true),
        mapping={found_names[row]: true_names[column] for row, column in pairs},
    )


def diarization_error_interval(
    errors: Sequence[DiarizationErrors], *, confidence: float = 0.95, seed: int = 0
) -> Summary:
    """The rate over several recordings with its bootstrap interval, recordings being resampled.

    See :func:`~auriscope.metrics.accumulate.summarize_ratio`.
    """
    wrong = [each.error_seconds for each in errors]
    return summarize_ratio(wrong, [each.total_seconds for each in errors], confidence=confidence, seed=seed)


def _covered(times: NDArray[np.float64], spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Say of each piece between two neighbouring ``times`` whether a span covers it; their ends are among the times."""
    depth = np.zeros(len(times))
    if spans:
        begins, ends = np.searchsorted(times, np.array(spans, dtype=np.float64).T)
        np.add.at(depth, begins, 1)
        np.add.at(depth, ends, -1)
    return np.cumsum(depth)[:-1] > 0


def _activity(times: NDArray[np.float64], turns: Sequence[SpeakerTurn]) -> tuple[list[str], NDArray[np.bool_]]:
    """Give the speakers' names and, (speakers, pieces), where each speaks."""
    names = sorted({turn.speaker for turn in turns})
    each = [[(turn.start_seconds, turn.end_seconds) for turn in turns if turn.speaker == name] for name in names]
    rows = [_covered(times, spans) for spans in each]
    return names, np.stack(rows) if rows else np.zeros((0, len(times) - 1), dtype=bool)
