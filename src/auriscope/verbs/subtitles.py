"""Words with times as text and as subtitles: SubRip (SRT) and WebVTT, cut as the practice of subtitling asks.

At most two lines of at most 42 characters, on the screen for at most 7 seconds and, if what follows allows it, for 5/6
of a second and long enough to be read: what the timed-text guides of broadcasters and streaming services agree on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from auriscope.recognition.words import Word

LINE_LENGTH = 42
"""Characters of a line."""
MAX_LINES = 2
MAX_SECONDS = 7.0
"""The longest that a subtitle stays."""

_LEAST_SECONDS = 5.0 / 6.0
_CHARACTERS_PER_SECOND = 17.0
_GAP_SECONDS = 0.08
_PAUSE_SECONDS = 1.0
_PARAGRAPH_SECONDS = 2.0
_ENDS = (".", "?", "!", "…")


@dataclass(frozen=True)
class Subtitle:
    """What is on the screen from ``start_seconds`` to ``end_seconds``: one or two lines."""

    start_seconds: float
    end_seconds: float
    lines: tuple[str, ...]


def paragraphs(words: Sequence[Word]) -> str:
    """Write words as text, a line for each stretch without a pause of two seconds; empty without words.

    >>> print(paragraphs([Word("SO", 0, 1, 1), Word("IT", 1, 2, 1), Word("IS", 6, 7, 1)]), end="")
    SO IT
    IS
    """
    return "".join(" ".join(word.word for word in part) + "\n" for part in _parted(words, _PARAGRAPH_SECONDS))


def subtitles(words: Sequence[Word]) -> list[Subtitle]:
    """Cut words, in order of time, into subtitles.

    A pause of a second always begins a new one. Of what is said between two such pauses as few are made as the limits
    allow; of all ways to do that, the one that ends sentences and uses pauses, and makes them about equally long.
    """
    found: list[Subtitle] = []
    for part in _parted([piece for word in words for piece in _pieces(word)], _PAUSE_SECONDS):
        found += [_subtitle(part[first:end]) for first, end in _cuts(part)]
    return list(_timed(found))


def srt(words: Sequence[Word]) -> str:
    """Write words as SubRip.

    >>> print(srt([Word("HELLO", 61.5, 62.0, 0.9), Word("THERE", 62.1, 62.75, 0.8)]), end="")
    1
    00:01:01,500 --> 00:01:02,750
    HELLO THERE
    """
    return subrip(subtitles(words))


def subrip(entries: Sequence[Subtitle]) -> str:
    """Write subtitles, as they are, as SubRip."""
    written = [
        f"{number}\n{_clock(each.start_seconds, ',')} --> {_clock(each.end_seconds, ',')}\n{_joined(each)}\n"
        for number, each in enumerate(entries, 1)
    ]
    return "\n".join(written)


def vtt(words: Sequence[Word]) -> str:
    """Write words as WebVTT; what would be markup there is escaped."""
    entries = ["WEBVTT\n"]
    for each in subtitles(words):
        text = _joined(each).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        entries.append(f"{_clock(each.start_seconds, '.')} --> {_clock(each.end_seconds, '.')}\n{text}\n")
    return "\n".join(entries)


def _joined(subtitle: Subtitle) -> str:
    return "\n".join(subtitle.lines)


def _parted(words: Sequence[Word], pause_seconds: float) -> Iterator[Sequence[Word]]:
    """Part words at pauses."""
    first = 0
    for place in range(1, len(words) + 1):
        if place == len(words) or words[place].start_seconds - words[place - 1].end_seconds >= pause_seconds:
            yield words[first:place]
            first = place


def _pieces(word: Word) -> Iterator[Word]:
    """Cut a word that fits on no line, and end one that lasts too long."""
    number = -(-len(word.word) // LINE_LENGTH)
    seconds = (word.end_seconds - word.start_seconds) / max(1, number)
    for place in range(number):
        start = word.start_seconds + place * seconds
        text = word.word[place * LINE_LENGTH : (place + 1) * LINE_LENGTH]
        yield replace(word, word=text, start_seconds=start, end_seconds=start + min(seconds, MAX_SECONDS))


def _cuts(words: Sequence[Word]) -> list[tuple[int, int]]:
    """Choose where subtitles begin and end: (first word, past the last one) each."""
    # best[k]: what the first k words cost, and where the last of their subtitles begins.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(words) + 1):
        options = []
        for first in range(end - 1, -1, -1):
            if first < end - 1 and not _fits(words[first:end]):
                break
            options.append((best[first][0] + _cost(words, first, end), first))
        best.append(min(options))
    found: list[tuple[int, int]] = []
    end = len(words)
    while end:
        found.append((best[end][1], end))
        end = best[end][1]
    return found[::-1]


def _fits(words: Sequence[Word]) -> bool:
    return words[-1].end_seconds - words[0].start_seconds <= MAX_SECONDS and _lines(words) is not None


def _cost(words: Sequence[Word], first: int, end: int) -> float:
    """What a subtitle costs: one each, less for a good place to end, a little for being longer than others."""
    length = sum(len(word.word) + 1 for word in words[first:end]) - 1
    cost = 1.0 + 0.3 * (length / (MAX_LINES * LINE_LENGTH)) ** 2
    if end < len(words):
        pause = words[end].start_seconds - words[end - 1].end_seconds
        cost -= 0.3 * min(1.0, max(0.0, pause)) + (0.5 if words[end - 1].word.endswith(_ENDS) else 0.0)
    return cost


def _lines(words: Sequence[Word]) -> tuple[str, ...] | None:
    """Write words on as few lines as they need, about equally long; None if they do not fit."""
    texts = [word.word for word in words]
    whole = " ".join(texts)
    if len(whole) <= LINE_LENGTH:
        return (whole,)
    pairs = [(" ".join(texts[:place]), " ".join(texts[place:])) for place in range(1, len(texts))]
    fitting = [pair for pair in pairs if max(map(len, pair)) <= LINE_LENGTH]
    # Of two about equal ways the one with the shorter line above hides less of the picture.
    return min(fitting, key=lambda pair: (abs(len(pair[0]) - len(pair[1])), len(pair[0])), default=None)


def _subtitle(words: Sequence[Word]) -> Subtitle:
    lines = _lines(words)
    assert lines is not None
    return Subtitle(words[0].start_seconds, words[-1].end_seconds, lines)


def _timed(found: Sequence[Subtitle]) -> Iterator[Subtitle]:
    """Let subtitles stay until they can be read, if the next one allows it; none begins before another ends."""
    latest = 0.0
    for place, each in enumerate(found):
        start = max(each.start_seconds, latest)
        needed = max(_LEAST_SECONDS, sum(map(len, each.lines)) / _CHARACTERS_PER_SECOND)
        end = max(each.end_seconds, start + needed)
        if place + 1 < len(found):
            end = min(end, max(each.end_seconds, found[place + 1].start_seconds - _GAP_SECONDS))
        latest = min(max(end, start + 0.001), start + MAX_SECONDS)
        yield Subtitle(start, latest, each.lines)


def _clock(seconds: float, point: str) -> str:
    minutes, milliseconds = divmod(round(1000 * seconds), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
