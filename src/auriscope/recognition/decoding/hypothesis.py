"""What decoding returns, and what looks wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from auriscope.recognition.words import Word

MAX_REPEATED = 8
"""The longest group of words, or of tokens where there are no words, whose repetition is looked for."""


@dataclass(frozen=True)
class Hypothesis:
    """A transcript of an utterance, with its score and what the score is made of.

    ``tokens`` are those of the recogniser, without the sentence's ends. ``score`` is that of
    :class:`~auriscope.recognition.decoding.options.DecodingOptions`; ``scores`` holds its parts before they are
    weighted: of "decoder", "ctc", "language_model" and "word_language_model" the natural logarithms of the
    probabilities, "words", "tokens" and "hotwords" are numbers of them, and "coverage" is as the options say. Only
    parts that took part are there. ``warnings`` say in words what looks wrong.
    """

    text: str
    tokens: tuple[int, ...] = ()
    score: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    words: tuple[Word, ...] = ()
    warnings: tuple[str, ...] = ()


def repetition(units: Sequence[str], limit: int) -> tuple[tuple[str, ...], int] | None:
    """Find what is said more than ``limit`` times in a row: the group of at most ``MAX_REPEATED`` units, and how often.

    Of several the one said most often; of these the shortest.

    >>> repetition("and so on and so on and so on".split(), 2)
    (('and', 'so', 'on'), 3)
    >>> repetition("no no no".split(), 3) is None
    True
    """
    found: tuple[tuple[str, ...], int] | None = None
    for size in range(1, MAX_REPEATED + 1):
        same = 0
        for position in range(size, len(units)):
            same = same + 1 if units[position] == units[position - size] else 0
            times = same // size + 1
            if times > limit and times > (found[1] if found else 0):
                begin = position - same - size + 1
                found = tuple(units[begin : begin + size]), times
    return found


def warnings_of(text: str, tokens: Sequence[str], *, limit: int, at_bound: bool) -> tuple[str, ...]:
    """Say what looks wrong with a hypothesis of these tokens: a loop, or no end before the longest length allowed."""
    found = []
    words = text.split()
    loop = repetition(words, limit)
    if loop is None and len(words) <= 1 < len(tokens):
        # A single endless word: characters that repeat, of which two in a row are spelling.
        loop = repetition(tokens, 2 * limit)
    if loop is not None:
        said = " ".join(loop[0]) if len(words) > 1 else "".join(loop[0])
        found.append(f"{said!r} is repeated {loop[1]} times in a row: the recogniser may be in a loop")
    if at_bound:
        found.append(f"no end was found within {len(tokens)} tokens: the transcript may run away")
    return tuple(found)
