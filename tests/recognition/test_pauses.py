"""Pauses of recordings, and words that end and begin at them."""

from __future__ import annotations

import numpy as np
import pytest

from auriscope.recognition.pauses import FloatArray, PauseConfig, PauseFinder, settled
from auriscope.recognition.words import Word

RATE = 8000


def _recording(spans: list[tuple[float, float]], seconds: float, noise: float, seed: int = 0) -> FloatArray:
    """Loud noise in the spans, and soft noise everywhere."""
    rng = np.random.default_rng(seed)
    waveform = noise * rng.standard_normal(round(seconds * RATE))
    for begin, end in spans:
        first, last = round(begin * RATE), round(end * RATE)
        waveform[first:last] += 0.2 * rng.standard_normal(last - first)
    return waveform.astype(np.float32)


def _pauses(waveform: FloatArray, config: PauseConfig | None = None) -> list[tuple[float, float]]:
    finder = PauseFinder(RATE, config)
    finder.update(waveform)
    return finder.pauses()


def _times(words: tuple[Word, ...]) -> list[float]:
    return [edge for word in words for edge in (word.start_seconds, word.end_seconds)]


@pytest.mark.parametrize("noise", [0.0, 1e-4, 0.01])
def test_pauses_are_what_lies_between_the_sounds(noise: float) -> None:
    found = _pauses(_recording([(0.2, 0.7), (0.72, 1.2), (1.5, 2.0)], 2.25, noise))
    expected = [(0.0, 0.2), (1.2, 1.5), (2.0, 2.25)]  # 20 ms are no pause
    assert np.array(found) == pytest.approx(np.array(expected), abs=0.011)


def test_blocks_of_any_lengths_give_the_same() -> None:
    waveform = _recording([(0.2, 0.7), (1.0, 1.5)], 2.0, 1e-3)
    finder = PauseFinder(RATE)
    for block in np.split(waveform, [1, 50, 51, 4000, 4013, 12_000]):
        finder.update(block)
    assert finder.pauses() == _pauses(waveform)


def test_nothing_and_what_never_changes_have_no_pauses() -> None:
    assert PauseFinder(RATE).pauses() == []
    assert _pauses(np.zeros(5, dtype=np.float32)) == []
    assert _pauses(np.zeros(RATE, dtype=np.float32)) == []
    assert _pauses(np.sin(np.arange(RATE) * 0.3).astype(np.float32)) == []


def _words(*times: tuple[float, float]) -> list[Word]:
    return [Word(f"W{number}", begin, end, 0.5) for number, (begin, end) in enumerate(times)]


def test_words_move_to_the_pauses_around_them() -> None:
    """Spikes at the beginnings of the words or before them, as bidirectional networks give."""
    pauses = [(0.0, 0.3), (0.9, 1.1), (1.6, 1.8), (2.5, 3.0)]
    words = _words((0.05, 0.4), (0.95, 1.0), (1.55, 1.9))
    found = settled(words, pauses)
    assert _times(found) == [0.3, 0.9, 1.1, 1.6, 1.8, 2.5]
    assert [(word.word, word.confidence) for word in found] == [(word.word, word.confidence) for word in words]


def test_late_spikes_move_back() -> None:
    assert _times(settled(_words((0.4, 0.6), (1.3, 1.4)), [(0.0, 0.2), (0.9, 1.1), (1.7, 2.0)])) == [0.2, 0.9, 1.1, 1.7]


def test_the_last_word_ends_where_its_sound_does() -> None:
    pauses = [(0.45, 0.6), (0.9, 2.0)]
    for end in (0.7, 0.9, 1.2):  # before the pause, at it, in it
        assert _times(settled(_words((0.65, end)), pauses)) == [0.6, 0.9]


def test_words_without_a_pause_meet() -> None:
    assert _times(settled(_words((0.1, 0.2), (0.5, 0.6), (0.9, 1.0)), [])) == [0.1, 0.5, 0.5, 0.9, 0.9, 1.0]


def test_a_word_is_not_drawn_out_over_what_nobody_says() -> None:
    """Noise for four seconds, in which no pause shows: the first word ends a little after its last letter."""
    found = settled(_words((0.1, 0.2), (4.5, 4.6)), [])
    assert _times(found) == pytest.approx([0.1, 0.6, 4.5, 4.6])
    assert settled(_words((0.1, 0.2)), [(4.0, 4.5)])[0].end_seconds == 0.2


def test_the_nearest_pause_is_taken_and_none_that_leaves_a_word_nothing() -> None:
    pauses = [(0.5, 0.6), (0.95, 1.05)]
    assert _times(settled(_words((0.1, 0.3), (1.0, 1.2)), pauses)) == [0.1, 0.95, 1.05, 1.2]
    # A closure within the second word, behind the beginning of the third: not between the first and the second.
    assert _times(settled(_words((0.4, 0.45), (0.5, 0.55), (0.58, 0.7)), [(0.57, 0.62)])) == [
        0.4,
        0.5,
        0.5,
        0.57,
        0.62,
        0.7,
    ]


def test_order_is_kept_whatever_the_pauses() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        edges = np.sort(rng.uniform(0, 5, 12)).tolist()
        gaps = np.sort(rng.uniform(0, 5, 10)).tolist()
        words = _words(*zip(edges[::2], edges[1::2], strict=True))
        times = _times(settled(words, list(zip(gaps[::2], gaps[1::2], strict=True))))
        assert times == sorted(times)


def test_no_words_stay_none() -> None:
    assert settled([], [(0.0, 1.0)]) == ()
