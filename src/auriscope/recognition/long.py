"""Recordings of any length, transcribed in constant memory through windows.

What may be speech (:mod:`~auriscope.recognition.voice`) is cut into windows of at most ``window_seconds``: at pauses
where there are any, and else so that they overlap. What two windows say of their overlap is compared word by word, and
the transcript goes over from one to the other at a word that both heard: no word is lost or doubled. Windows are
decoded in batches, which changes the time it takes and nothing else.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.recognition.decoding import DecodingOptions, Hypothesis, TokenLanguageModel, WordLanguageModel, decode
from auriscope.recognition.decoding.decode import SHORTEST_SECONDS, SILENCE
from auriscope.recognition.pauses import PauseConfig, PauseFinder, settled
from auriscope.recognition.recognizer import Recognizer
from auriscope.recognition.voice import Span, VoiceConfig, VoiceDetector
from auriscope.recognition.words import Word

FloatArray = NDArray[np.float32]

_SAME_SECONDS = 0.5
_MAX_WARNINGS = 8


@dataclass(frozen=True)
class LongConfig:
    """How a recording is cut into windows.

    ``window_seconds``: the most that the recogniser hears at once.
    ``overlap_seconds``: what two windows share where speech goes on without a pause, at most half of a window.
    ``pause_seconds``: the shortest pause at which speech is cut.
    ``batch_size``: windows that are decoded together; the text does not depend on it.
    ``voice``: what counts for speech; None: everything is heard, silence and music too.
    """

    window_seconds: float = 20.0
    overlap_seconds: float = 5.0
    pause_seconds: float = 0.25
    batch_size: int = 8
    voice: VoiceConfig | None = field(default_factory=VoiceConfig)

    def __post_init__(self) -> None:
        if not 0.0 < self.overlap_seconds <= self.window_seconds / 2.0:
            raise ValueError(
                f"overlap_seconds must lie in (0, {self.window_seconds / 2.0}], not {self.overlap_seconds}"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size} must be at least 1")


@dataclass(frozen=True)
class Alternative:
    """Another transcript of a segment, with its score, natural logarithms; see ``DecodingOptions``."""

    text: str
    score: float


@dataclass(frozen=True)
class Segment:
    """What one window gave: the seconds of the recording that were heard, and the text that was taken of it.

    ``alternatives`` are all hypotheses of the whole window, best first, if more than one was asked for. Where windows
    overlap, these say more than ``text``.
    """

    start_seconds: float
    end_seconds: float
    text: str
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """A recording's transcript: ``words`` with their times in the recording, ``segments`` as it was heard.

    ``speech_seconds`` is how much of ``duration_seconds`` was taken for speech. ``warnings`` say what to know of it.
    """

    text: str
    words: tuple[Word, ...]
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...]
    duration_seconds: float
    speech_seconds: float


@dataclass(frozen=True)
class Window:
    """A stretch of a recording that is heard at once: its first sample, its samples, and how many of them were heard
    in the window before as well."""

    begin: int
    waveform: FloatArray
    shared: int = 0

    @property
    def end(self) -> int:
        """The sample behind the last one."""
        return self.begin + len(self.waveform)


class _Given:
    """Stretches that are known beforehand, asked for as a detector is."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans, self._place = list(spans), 0

    def push(self, block: FloatArray) -> list[Span]:
        self._place += len(block)
        ended = [span for span in self._spans if span[1] <= self._place]
        del self._spans[: len(ended)]
        return ended

    def finish(self) -> list[Span]:
        return [(begin, min(end, self._place)) for begin, end in self._spans if begin < self._place]

    @property
    def settled(self) -> int:
        return self._place

    @property
    def open_span(self) -> Span | None:
        return next(((begin, self._place) for begin, _ in self._spans if begin < self._place), None)


class WindowCutter:
    """Cut what may be speech of a recording that comes in blocks into windows; memory does not grow with it.

    With ``spans``, (begin, end) in samples and in order, only these stretches are looked at, with the detector's margin
    around them; without a detector they are cut as they are.
    """

    def __init__(self, sample_rate: int, config: LongConfig, spans: Sequence[Span] | None = None) -> None:
        self._config, self._rate = config, sample_rate
        self._size = round(config.window_seconds * sample_rate)
        self._overlap = round(config.overlap_seconds * sample_rate)
        self._detector: VoiceDetector | _Given
        if config.voice is not None:
            self._detector = VoiceDetector(sample_rate, config.voice)
        else:
            self._detector = _Given([(0, sys.maxsize)] if spans is None else spans)
        self._spans = spans if config.voice is not None else None
        self._pause = PauseConfig(min_seconds=config.pause_seconds)
        self._kept: FloatArray = np.zeros(0, dtype=np.float32)
        self._first = 0
        self._next: int | None = None
        self._shared = 0
        self.num_samples = 0
        self.peak = 0.0
        self.num_heard = 0

    def push(self, block: FloatArray) -> list[Window]:
        """Take the next block, (time,), and give the windows that are complete."""
        self._kept = np.concatenate((self._kept, block))
        ended = self._detector.push(self._inside(block))
        self.num_samples += len(block)
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        found = [window for span in ended for window in self._cut(*span, last=True)]
        if (reaching := self._detector.open_span) is not None:
            found += self._cut(*reaching, last=False)
        self._forget()
        return found

    def finish(self) -> list[Window]:
        """Give what is left after the last block."""
        return [window for span in self._detector.finish() for window in self._cut(*span, last=True)]

    def _inside(self, block: FloatArray) -> FloatArray:
        """What the detector hears of a block: nothing outside of the spans."""
        if self._spans is None:
            return block
        place = self.num_samples
        heard = np.zeros_like(block)
        first = bisect_right(self._spans, place, key=lambda span: span[1])
        for begin, end in self._spans[first:]:
            if begin >= place + len(block):
                break
            inside = slice(max(0, begin - place), end - place)
            heard[inside] = block[inside]
        return heard

    def _cut(self, begin: int, end: int, *, last: bool) -> list[Window]:
        """Cut a stretch, of which an earlier call may have cut the beginning; ``last``: it goes no further."""
        found = []
        if self._next is None:
            self._next, self._shared = begin, 0
        while end - self._next > self._size:
            cut = self._pause_in(self._next)
            if cut is None:
                found.append(self._window(self._next, self._next + self._size))
                self._next, self._shared = self._next + self._size - self._overlap, self._overlap
            else:
                found.append(self._window(self._next, cut))
                self._next, self._shared = cut, 0
        if last:
            if end - self._next > self._shared:
                found.append(self._window(self._next, end))
            self._next = None
        return found

    def _window(self, begin: int, end: int) -> Window:
        self.num_heard += end - begin - self._shared
        return Window(begin, self._kept[begin - self._first : end - self._first].copy(), self._shared)

    def _pause_in(self, begin: int) -> int | None:
        """Find the middle of the longest pause in the second half of a window; None if there is none."""
        finder = PauseFinder(self._rate, self._pause)
        finder.update(self._kept[begin - self._first : begin - self._first + self._size])
        half = 0.5 * self._config.window_seconds
        pauses = [pause for pause in finder.pauses() if sum(pause) / 2.0 > half]
        if not pauses:
            return None
        longest = max(pauses, key=lambda pause: (round(pause[1] - pause[0], 6), pause[0]))
        return begin + min(self._size, round(sum(longest) / 2.0 * self._rate))

    def _forget(self) -> None:
        needed = self._detector.settled if self._next is None else self._next
        drop = max(0, min(needed - self._first, len(self._kept)))
        self._kept, self._first = self._kept[drop:], self._first + drop


def transcribe_waveform(
    blocks: Iterable[FloatArray],
    recognizer: Recognizer,
    *,
    config: LongConfig | None = None,
    options: DecodingOptions | None = None,
    language_model: TokenLanguageModel | WordLanguageModel | None = None,
    spans: Sequence[tuple[float, float]] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Transcript:
    """Transcribe a mono recording that arrives in blocks; only the transcript grows with it.

    Args:
        blocks: float32 (time,) each, of any lengths, at the recogniser's sample rate.
        recognizer: any, in evaluation mode. One that cannot tell padding hears windows of equal length together.
        config: how the recording is cut.
        options: of decoding; see :func:`~auriscope.recognition.decoding.decode`, as is ``language_model``.
        language_model: over the recogniser's tokens, or over words.
        spans: (start, end) in seconds and in order, if speech is to be looked for in these stretches alone.
        on_progress: told how many seconds of the recording are done.

    Returns:
        The transcript. Where there was nothing to hear it is empty, and a warning says why.

    Raises:
        AuriscopeError: the options ask for what the recogniser does not have, or the language model is another's.
    """
    config, options = config or LongConfig(), options or DecodingOptions()
    rate = int(recognizer.config.sample_rate)
    limit = getattr(recognizer, "max_seconds", None)
    if limit is not None and limit < config.window_seconds:
        config = replace(config, window_seconds=limit, overlap_seconds=min(config.overlap_seconds, limit / 2.0))
    given = None if spans is None else [(round(start * rate), round(end * rate)) for start, end in spans]
    cutter = WindowCutter(rate, config, given)
    pieces: list[_Piece] = []
    for window, hypotheses in _decoded(_windows(blocks, cutter), recognizer, config, options, language_model):
        piece = _piece(window, hypotheses, recognizer)
        if window.shared and pieces:
            span = window.begin / rate, (window.begin + window.shared) / rate
            loose = piece.guessed or pieces[-1].guessed
            pieces[-1].words, piece.words = merge(
                pieces[-1].words, piece.words, span, same_seconds=span[1] - span[0] if loose else _SAME_SECONDS
            )
        pieces.append(piece)
        if on_progress is not None:
            on_progress(window.end / rate)
    words = tuple(word for piece in pieces for word in piece.words)
    segments = tuple(piece.segment(options.num_best) for piece in pieces)
    return Transcript(
        " ".join(word.word for word in words),
        words,
        segments,
        _warnings(pieces, cutter, rate, bool(words)),
        cutter.num_samples / rate,
        cutter.num_heard / rate,
    )


def merge(
    before: Sequence[Word],
    after: Sequence[Word],
    overlap: tuple[float, float],
    *,
    same_seconds: float = _SAME_SECONDS,
) -> tuple[list[Word], list[Word]]:
    """Decide which words of two windows that overlap are kept: those of the first, and those of the second.

    The words that both heard at about the same time (their middles no further apart than ``same_seconds``) are matched
    in order. The transcript goes over from the first window to the second behind the match that
    is nearest to the middle of the ``overlap``, since each of them knows least of what follows at its own edge. Without
    a match it does so between two words; of two that sound at once there, the surer one stays.

    >>> def said(text, start):
    ...     return [Word(word, start + number, start + number + 0.8, 0.9) for number, word in enumerate(text.split())]
    >>> first, second = merge(said("we cut the sent", 0.0), said("ut the sentence here", 1.1), (1.0, 4.0))
    >>> [word.word for word in (*first, *second)]
    ['we', 'cut', 'the', 'sentence', 'here']
    """
    begin, end = overlap
    middle = (begin + end) / 2.0
    first = len(before)
    while first and before[first - 1].end_seconds > begin - same_seconds:
        first -= 1
    last = 0
    while last < len(after) and after[last].start_seconds < end + same_seconds:
        last += 1
    matches = [(first + i, j) for i, j in _matches(before[first:], after[:last], same_seconds)]
    if matches:
        i, j = min(matches, key=lambda match: abs(_centre(before[match[0]]) - middle))
        return list(before[: i + 1]), list(after[j + 1 :])
    moment = _between(before[first:], after[:last], middle, begin, end)
    kept = [word for word in before if _centre(word) <= moment]
    following = [word for word in after if _centre(word) > moment]
    if kept and following:
        one, other = kept[-1], following[0]
        shorter = min(one.end_seconds - one.start_seconds, other.end_seconds - other.start_seconds)
        if one.end_seconds - other.start_seconds > 0.5 * shorter:
            (kept if one.confidence < other.confidence else following).remove(
                one if one.confidence < other.confidence else other
            )
    return kept, following


@dataclass
class _Piece:
    """What a window gave: the words that are taken of it, in the recording's time."""

    start_seconds: float
    end_seconds: float
    words: list[Word]
    hypotheses: list[Hypothesis]
    guessed: bool

    def segment(self, num_best: int) -> Segment:
        alternatives = tuple(Alternative(each.text, each.score) for each in self.hypotheses) if num_best > 1 else ()
        return Segment(self.start_seconds, self.end_seconds, " ".join(word.word for word in self.words), alternatives)


def _windows(blocks: Iterable[FloatArray], cutter: WindowCutter) -> Iterator[Window]:
    for block in blocks:
        yield from cutter.push(np.asarray(block, dtype=np.float32))
    yield from cutter.finish()


def _decoded(
    windows: Iterator[Window],
    recognizer: Recognizer,
    config: LongConfig,
    options: DecodingOptions,
    language_model: TokenLanguageModel | WordLanguageModel | None,
) -> Iterator[tuple[Window, list[Hypothesis]]]:
    """Decode windows in batches of about equal length, and give them in order."""
    while waiting := list(islice(windows, 4 * config.batch_size if config.batch_size > 1 else 1)):
        found: dict[int, list[Hypothesis]] = {}
        order = sorted(range(len(waiting)), key=lambda number: -len(waiting[number].waveform))
        for begin in range(0, len(order), config.batch_size):
            numbers = order[begin : begin + config.batch_size]
            lengths = torch.tensor([len(waiting[number].waveform) for number in numbers])
            waveform = torch.zeros(len(numbers), int(lengths.max()))
            for row, number in enumerate(numbers):
                waveform[row, : lengths[row]] = torch.from_numpy(waiting[number].waveform)
            results = decode(
                recognizer,
                waveform.to(recognizer.device),
                lengths.to(recognizer.device),
                options=options,
                language_model=language_model,
            )
            found.update(zip(numbers, results, strict=True))
        for number, window in enumerate(waiting):
            yield window, found[number]


def _piece(window: Window, hypotheses: list[Hypothesis], recognizer: Recognizer) -> _Piece:
    rate = int(recognizer.config.sample_rate)
    start, end = window.begin / rate, window.end / rate
    best = hypotheses[0]
    words: Sequence[Word] = best.words
    guessed = not words and bool(best.text)
    if guessed:
        words = _spread(best, end - start)
    elif recognizer.has_ctc and words:
        finder = PauseFinder(rate)
        finder.update(window.waveform)
        words = settled(words, finder.pauses())
    moved = [
        replace(
            word,
            start_seconds=min(end, start + word.start_seconds),
            end_seconds=min(end, start + word.end_seconds),
        )
        for word in words
    ]
    return _Piece(start, end, moved, hypotheses, guessed)


def _spread(hypothesis: Hypothesis, duration_seconds: float) -> list[Word]:
    """Guess the times of words that have none: by their letters, all over the window."""
    words = hypothesis.text.split()
    letters = np.cumsum([0.0, *(len(word) + 1 for word in words)])
    places = letters / letters[-1] * duration_seconds
    mean = hypothesis.scores.get("decoder", hypothesis.score) / max(1, len(hypothesis.tokens))
    sure = float(np.exp(min(0.0, mean)))
    return [
        Word(word, float(begin), float(end), sure)
        for word, begin, end in zip(words, places[:-1], places[1:], strict=True)
    ]


def _matches(before: Sequence[Word], after: Sequence[Word], same_seconds: float) -> list[tuple[int, int]]:
    """Match equal words in order: as many as possible, as near in time as possible.

    The longest common subsequence, but that a match counts for less the further apart its two words are: else a word
    that is said over and over would match the one before it, whenever that makes one match more.
    """
    best = [[0.0] * (len(after) + 1) for _ in range(len(before) + 1)]

    def worth(i: int, j: int) -> float:
        away = abs(_centre(before[i]) - _centre(after[j]))
        if before[i].word.casefold() != after[j].word.casefold() or away > same_seconds:
            return 0.0
        return 1.0 - 0.9 * away / same_seconds

    for i in reversed(range(len(before))):
        for j in reversed(range(len(after))):
            own = worth(i, j)
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + own if own else 0.0)
    found, i, j = [], 0, 0
    while i < len(before) and j < len(after):
        own = worth(i, j)
        if own and best[i][j] == best[i + 1][j + 1] + own:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def _between(before: Sequence[Word], after: Sequence[Word], middle: float, begin: float, end: float) -> float:
    """Find the moment in the overlap nearest to its middle at which no word sounds; the middle if there is none."""
    words = [*before, *after]
    moments = [middle, *(moment for word in words for moment in (word.start_seconds, word.end_seconds))]
    quiet = [
        moment
        for moment in moments
        if begin <= moment <= end and not any(word.start_seconds < moment < word.end_seconds for word in words)
    ]
    return min(quiet, key=lambda moment: abs(moment - middle), default=middle)


def _centre(word: Word) -> float:
    return (word.start_seconds + word.end_seconds) / 2.0


def _warnings(pieces: Sequence[_Piece], cutter: WindowCutter, rate: int, any_words: bool) -> tuple[str, ...]:
    if cutter.num_samples < SHORTEST_SECONDS * rate:
        return (f"the recording is too short to hold speech: {1000.0 * cutter.num_samples / rate:.2g} ms",)
    if cutter.peak < SILENCE:
        return ("the recording is silent",)
    if not pieces:
        return ("there is no speech in the recording, as far as can be told",)
    found = [
        f"at {clock(piece.start_seconds)}: {warning}" for piece in pieces for warning in piece.hypotheses[0].warnings
    ]
    if len(found) > _MAX_WARNINGS:
        found[_MAX_WARNINGS - 1 :] = [f"and {len(found) - _MAX_WARNINGS + 1} more windows with such warnings"]
    if not any_words and not found:
        found.append("no words were recognised")
    if any(piece.guessed for piece in pieces):
        found.append("the model gives no word times: they are guessed from the letters")
    return tuple(found)


def clock(seconds: float) -> str:
    """Write a moment of a recording.

    >>> clock(5.2), clock(3675.0)
    ('0:05', '1:01:15')
    """
    minutes, whole = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{whole:02}" if minutes >= 60 else f"{minutes}:{whole:02}"
