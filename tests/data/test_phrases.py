"""Where an utterance is cut, and what each frame of it says."""

from __future__ import annotations

import numpy as np

from auriscope.data.phrases import Phrase, path, phrases

TEXT = "so, he went. and then"
TIMES = [
    (0, 0.2),
    (1, 0.3),
    (4, 0.9),
    (5, 1.0),
    (7, 1.1),
    (8, 1.2),
    (9, 1.3),
    (10, 1.4),
    (13, 2.4),
    (14, 2.5),
    (20, 3.0),
]


def test_an_utterance_is_cut_in_its_pauses() -> None:
    first, second, third = phrases(TEXT, TIMES, 3.2, 0.5)
    assert (first.text, second.text, third.text) == ("so,", "he went.", "and then")
    assert (first.start_seconds, first.end_seconds) == (0.0, 0.6)
    np.testing.assert_allclose([second.start_seconds, second.end_seconds, third.end_seconds], [0.6, 1.9, 3.2])
    assert [place for place, _ in second.times] == [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose([seconds for _, seconds in third.times], [0.5, 0.6, 1.1])
    assert sum(len(phrase.times) for phrase in (first, second, third)) == len(TIMES)


def test_what_is_too_short_or_has_no_times_stays_whole() -> None:
    assert [phrase.text for phrase in phrases(TEXT, TIMES, 3.2, 0.7)] == ["so, he went.", "and then"]
    assert [phrase.text for phrase in phrases(TEXT, TIMES, 3.2, 2.0)] == [TEXT]
    assert phrases(TEXT, [], 3.2, 0.1) == [Phrase(TEXT, 0.0, 3.2, [])]
    # A long letter is no pause.
    assert len(phrases("word", [(0, 0.1), (1, 1.5), (3, 3.0)], 3.2, 0.1)) == 1


def test_frames_go_evenly_from_letter_to_letter() -> None:
    found = path(4, [(1, 0.2), (2, 0.6)], 11, 0.1)
    np.testing.assert_allclose(found, [0.25, 0.75, 1.125, 1.375, 1.625, 1.875, 2.25, 2.75, 3.25, 3.75, 4.0], rtol=1e-6)
    np.testing.assert_allclose(path(3, [], 4, 0.5), [0.25 / 1.9 * 3, 0.75 / 1.9 * 3, 1.25 / 1.9 * 3, 1.75 / 1.9 * 3])
    # What is said to the very end is there to the end.
    np.testing.assert_allclose(path(3, [(2, 0.98)], 10, 0.1)[-2:], [2 * 0.85 / 0.98, 2 * 0.95 / 0.98], rtol=1e-6)
