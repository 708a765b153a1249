from __future__ import annotations

import warnings
from itertools import permutations

import numpy as np
import pytest

from auriscope.metrics.der import DiarizationErrors, diarization_error_interval, diarization_errors
from auriscope.signal.turns import SpeakerTurn, joined


def _random_turns(rng: np.random.Generator, num_speakers: int, names: str) -> list[SpeakerTurn]:
    """Turns on a grid of 0.1 s that overlap between speakers and within one."""
    turns = []
    for _ in range(int(rng.integers(3, 14))):
        start, length = rng.integers(0, 300), rng.integers(1, 60)
        turns.append(SpeakerTurn(f"{names}{rng.integers(num_speakers)}", start / 10, (start + length) / 10))
    return turns


def _annotation(turns: list[SpeakerTurn]):
    core = pytest.importorskip("pyannote.core")
    annotation = core.Annotation()
    for number, turn in enumerate(joined(turns)):
        annotation[core.Segment(turn.start_seconds, turn.end_seconds), number] = turn.speaker
    return annotation


@pytest.mark.parametrize("collar_seconds", [0.0, 0.25])
@pytest.mark.parametrize("skip_overlap", [False, True])
@pytest.mark.parametrize("with_uem", [False, True])
def test_equals_pyannote_metrics(collar_seconds: float, skip_overlap: bool, with_uem: bool) -> None:
    diarization = pytest.importorskip("pyannote.metrics.diarization")
    core = pytest.importorskip("pyannote.core")
    rng = np.random.default_rng(3)
    for _ in range(12):
        reference, found = _random_turns(rng, 3, "r"), _random_turns(rng, 4, "f")
        scored = [(1.0, 11.5), (14.0, 25.0)] if with_uem else None
        uem = core.Timeline([core.Segment(*span) for span in scored]) if scored else None
        metric = diarization.DiarizationErrorRate(collar=2 * collar_seconds, skip_overlap=skip_overlap)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = metric(_annotation(reference), _annotation(found), uem=uem, detailed=True)
        ours = diarization_errors(
            found, reference, collar_seconds=collar_seconds, skip_overlap=skip_overlap, scored=scored
        )
        assert ours.missed_seconds == pytest.approx(theirs["missed detection"], abs=1e-6)
        assert ours.false_alarm_seconds == pytest.approx(theirs["false alarm"], abs=1e-6)
        assert ours.confusion_seconds == pytest.approx(theirs["confusion"], abs=1e-6)
        assert ours.total_seconds == pytest.approx(theirs["total"], abs=1e-6)


def test_equals_frames_counted_under_the_best_of_all_mappings() -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        reference, found = _random_turns(rng, 3, "r"), _random_turns(rng, 3, "f")
        truth, heard = (_frames(turns, names) for turns, names in ((reference, "r"), (found, "f")))
        correct = max(np.sum(heard[list(order)] & truth) for order in permutations(range(3)))
        num_true, num_heard = truth.sum(axis=0), heard.sum(axis=0)
        errors = diarization_errors(found, reference)
        assert errors.total_seconds == pytest.approx(num_true.sum() / 10)
        assert errors.error_seconds == pytest.approx((np.maximum(num_true, num_heard).sum() - correct) / 10)


def _frames(turns: list[SpeakerTurn], names: str) -> np.ndarray:
    frames = np.zeros((3, 400), dtype=bool)
    for turn in turns:
        first, last = round(10 * turn.start_seconds), round(10 * turn.end_seconds)
        frames[int(turn.speaker.removeprefix(names)), first:last] = True
    return frames


def test_names_do_not_matter_and_every_kind_of_error_is_told_apart() -> None:
    reference = [SpeakerTurn("Ann", 0.0, 4.0), SpeakerTurn("Bob", 5.0, 9.0)]
    same = diarization_errors([SpeakerTurn("x", 5.0, 9.0), SpeakerTurn("y", 0.0, 4.0)], reference)
    assert same == DiarizationErrors(0.0, 0.0, 0.0, 8.0, {"x": "Bob", "y": "Ann"})
    found = [SpeakerTurn("x", 0.0, 6.0), SpeakerTurn("y", 6.5, 9.0)]
    errors = diarization_errors(found, reference)
    assert (errors.missed_seconds, errors.false_alarm_seconds, errors.confusion_seconds) == (0.5, 1.0, 1.0)
    assert errors.rate == pytest.approx(2.5 / 8)


def test_nothing_found_nothing_said_and_neither() -> None:
    turn = [SpeakerTurn("a", 1.0, 3.0)]
    assert diarization_errors([], turn).rate == 1.0
    assert diarization_errors(turn, []).rate == float("inf")
    assert diarization_errors([], []).rate == 0.0


def test_a_negative_collar_is_refused() -> None:
    with pytest.raises(ValueError, match="collar_seconds"):
        diarization_errors([], [], collar_seconds=-0.1)


def test_recordings_are_added_by_their_time() -> None:
    good, bad = DiarizationErrors(0.0, 1.0, 0.0, 90.0, {"a": "b"}), DiarizationErrors(2.0, 3.0, 4.0, 10.0)
    assert (good + bad).rate == pytest.approx(0.1)
    assert (good + bad).mapping == {}
    summary = diarization_error_interval([good, bad])
    assert summary.mean == pytest.approx(0.1)
    assert summary.low == pytest.approx(1 / 90)
    assert summary.high == pytest.approx(0.9)
