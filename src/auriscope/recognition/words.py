"""Words with their times and how sure the recogniser is of them, made of tokens that have times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auriscope.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Word:
    """A word as it was heard: from ``start_seconds`` to ``end_seconds``, with a ``confidence`` from 0 to 1."""

    word: str
    start_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True)
class TokenSpan:
    """Where a token lies: from frame ``first_frame`` up to, not including, ``end_frame``.

    ``confidence`` is the token's posterior at the surest of these frames, from 0 to 1.
    """

    token: int
    first_frame: int
    end_frame: int
    confidence: float


def words_of_spans(
    spans: Sequence[TokenSpan], tokenizer: Tokenizer, frame_seconds: float, *, start_seconds: float = 0.0
) -> tuple[Word, ...]:
    """Put the tokens of an utterance together to words.

    Frame k lasts from k to k + 1 times ``frame_seconds`` after ``start_seconds``. A word lasts from the first frame of
    its first token to the last frame of its last one. Its confidence is the product of its tokens' confidences: how
    likely all of them are right, if frames err independently. Spaces around a word count for nothing.

    >>> from auriscope.text.tokenizer import characters
    >>> spans = [TokenSpan(2, 1, 2, 0.9), TokenSpan(4, 2, 3, 1.0), TokenSpan(3, 5, 6, 0.5), TokenSpan(3, 7, 8, 0.8)]
    >>> for word in words_of_spans(spans, characters("ab "), 0.5):
    ...     print(word.word, word.start_seconds, word.end_seconds, word.confidence)
    a 0.5 1.0 0.9
    bb 2.5 4.0 0.4
    """
    words = []
    for text, first, end in tokenizer.words([span.token for span in spans]):
        own = [span for span in spans[first:end] if span.token not in tokenizer.special_ids]
        sure = math.prod(span.confidence for span in own)
        start = start_seconds + own[0].first_frame * frame_seconds
        words.append(Word(text, start, start_seconds + own[-1].end_frame * frame_seconds, min(1.0, max(0.0, sure))))
    return tuple(words)
