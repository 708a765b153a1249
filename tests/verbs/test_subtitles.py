"""Subtitles keep to the limits of the practice, lose no word, and are read by a parser of their formats."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from auriscope.recognition.words import Word
from auriscope.verbs.subtitles import LINE_LENGTH, MAX_SECONDS, paragraphs, srt, subtitles, vtt


def talk(number: int, seed: int, pace: float = 0.3) -> list[Word]:
    rng = np.random.default_rng(seed)
    words, now = [], float(rng.uniform(0, 2))
    for _ in range(number):
        text = "".join(rng.choice(list("ABCDEFGHIJ"), int(rng.integers(1, 12))))
        text += str(rng.choice(["", "", "", ",", "."]))
        length = pace * float(rng.uniform(0.3, 1.5))
        words.append(Word(text, now, now + length, 0.9))
        now += length + float(rng.exponential(0.15)) + (1.5 if rng.random() < 0.05 else 0.0)
    return words


def times(text: str, point: str) -> list[tuple[float, float]]:
    clock = rf"(\d\d):(\d\d):(\d\d)\{point}(\d\d\d)"
    found = re.findall(rf"^{clock} --> {clock}$", text, flags=re.MULTILINE)
    values = [[int(part) for part in each] for each in found]
    return [(a * 3600 + b * 60 + c + d / 1000, e * 3600 + f * 60 + g + h / 1000) for a, b, c, d, e, f, g, h in values]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pace", [0.15, 0.3, 1.2])
def test_the_limits_are_kept_and_no_word_is_lost(seed: int, pace: float) -> None:
    words = talk(150, seed, pace)
    found = subtitles(words)
    assert " ".join(" ".join(each.lines) for each in found) == " ".join(word.word for word in words)
    for each in found:
        assert 1 <= len(each.lines) <= 2
        assert max(map(len, each.lines)) <= LINE_LENGTH
        assert 0.0 < each.end_seconds - each.start_seconds <= MAX_SECONDS + 1e-9
    for before, after in pairwise(found):
        assert before.end_seconds <= after.start_seconds + 1e-9
    starts = [word.start_seconds for word in words]
    assert all(any(abs(each.start_seconds - start) < 1e-6 for start in starts) for each in found)


def test_a_pause_or_the_end_of_a_sentence_ends_a_subtitle() -> None:
    def said(text: str, start: float) -> list[Word]:
        return [
            Word(word, start + 0.4 * place, start + 0.4 * place + 0.35, 1.0) for place, word in enumerate(text.split())
        ]

    parts = subtitles([*said("we are here", 0.0), *said("and we stay", 3.0)])
    assert [each.lines for each in parts] == [("we are here",), ("and we stay",)]
    long = "so this one is a sentence that ends here. The other one goes on for a while and then it ends as well."
    first, second = subtitles(said(long, 0.0))
    assert first.lines == ("so this one is a sentence that ends here.",)
    assert second.lines == ("The other one goes on for a", "while and then it ends as well.")


def test_short_ones_stay_as_long_as_there_is_room() -> None:
    first, second, third = subtitles(
        [Word("NO", 1.0, 1.1, 1.0), Word("YES", 2.2, 2.3, 1.0), Word("UNDERSTANDABLY", 20.0, 20.1, 1.0)]
    )
    assert first.end_seconds - first.start_seconds == pytest.approx(5 / 6)
    assert second.end_seconds - second.start_seconds == pytest.approx(5 / 6)
    assert third.end_seconds - third.start_seconds == pytest.approx(5 / 6)
    near, _ = subtitles([Word("NO.", 1.0, 1.1, 1.0), Word("YES", 2.1, 9.0, 1.0)])
    assert near.end_seconds == pytest.approx(1.0 + 5 / 6)


def test_a_word_without_end_is_cut() -> None:
    found = subtitles([Word("X" * 100, 0.0, 30.0, 0.1)])
    assert "".join("".join(each.lines) for each in found) == "X" * 100
    assert all(len(line) <= LINE_LENGTH for each in found for line in each.lines)
    assert all(each.end_seconds - each.start_seconds <= MAX_SECONDS for each in found)


def test_subrip_and_webvtt_say_the_same() -> None:
    words = [*talk(60, 3), Word("A<B&C", 3700.0, 3700.9995, 1.0)]
    rip, web = srt(words), vtt(words)
    entries = rip.strip().split("\n\n")
    assert [entry.split("\n")[0] for entry in entries] == [str(number) for number in range(1, len(entries) + 1)]
    assert times(rip, ",") == times(web, ".")
    assert times(rip, ",")[-1][0] == 3700.0
    assert len(times(rip, ",")) == len(entries) == len(subtitles(words))
    assert web.startswith("WEBVTT\n\n")
    assert "A&lt;B&amp;C" in web
    assert "A<B&C" in rip


def test_nothing_said_is_nothing_written() -> None:
    assert (subtitles([]), srt([]), vtt([]), paragraphs([])) == ([], "", "WEBVTT\n", "")
