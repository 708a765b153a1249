"""Tokenizers: text to the numbers that a network writes, and back.

Number 0 is CTC's blank and number 1 begins and ends a sentence, in every tokenizer of ours; foreign ones say where
theirs are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from auriscope.errors import AuriscopeError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Segmenter

TokenKind = Literal["characters", "words", "pieces", "merges"]
BLANK, EOS, UNKNOWN = "<blank>", "<eos>", "<unk>"
WORD_START = "\u2581"
"""What a piece that begins a word begins with, as in SentencePiece."""
_REMEMBERED = 100_000
"""Words whose pieces are kept."""


@dataclass(frozen=True)
class Tokenizer:
    """The tokens of a network, each by its number.

    ``kind`` "characters": every token is a character, words are parted by the token " ". "words": every token is a
    word. "pieces": a token that begins with ``WORD_START`` begins a word; ``scores`` are the pieces' log probabilities,
    by which text is cut into the likeliest ones (Kudo, arXiv 1804.10959). "merges": such pieces as well, but text is
    cut by joining neighbours from single characters on, those first whose joint piece scores highest, as in byte pair
    encoding (Sennrich et al., arXiv 1508.07909) and SentencePiece.

    ``blank_id``, ``bos_id`` and ``eos_id`` are the numbers of CTC's blank and of a sentence's two ends; None where the
    network has none. None of them, nor ``UNKNOWN``, is ever part of a text.

    >>> tokenizer = characters("abc ")
    >>> tokenizer.encode("a cab")
    [2, 5, 4, 2, 3]
    >>> tokenizer.decode([1, 2, 5, 4, 2, 3, 1])
    'a cab'
    """

    tokens: tuple[str, ...]
    kind: TokenKind = "characters"
    scores: tuple[float, ...] = ()
    blank_id: int | None = 0
    bos_id: int | None = 1
    eos_id: int | None = 1

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The numbers of the tokens that are no text."""
        ends = {number for number in (self.blank_id, self.bos_id, self.eos_id) if number is not None}
        return frozenset(ends | {n for n, token in enumerate(self.tokens) if token in (BLANK, EOS, UNKNOWN)})

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens) if number not in self.special_ids}

    @property
    def has_pieces(self) -> bool:
        """Whether the tokens are pieces of words, of which some begin with ``WORD_START``."""
        return self.kind in ("pieces", "merges")

    @cached_property
    def unknown_id(self) -> int | None:
        """The number that stands for whatever the tokens cannot write, if there is one."""
        return self.tokens.index(UNKNOWN) if UNKNOWN in self.tokens else None

    def encode(self, text: str) -> list[int]:
        """Turn text into token numbers, without the sentence's ends.

        Raises ``AuriscopeError`` for a character, or a word, that the tokens cannot write, if there is no ``UNKNOWN``.
        """
        if self.has_pieces:
            pieces = self._segment(text) if self.kind == "pieces" else self._merge(text)
            return [self._number(piece) for piece in pieces]
        parts: Iterable[str] = " ".join(text.split()) if self.kind == "characters" else text.split()
        return [self._number(part) for part in parts]

    def decode(self, numbers: Iterable[int]) -> str:
        """Turn token numbers into text, leaving out what is no text."""
        parts = [self.tokens[number] for number in numbers if number not in self.special_ids]
        if self.kind == "words":
            return " ".join(parts)
        joined = "".join(parts)
        if self.has_pieces:
            joined = joined.replace(WORD_START, " ")
        return " ".join(joined.split())

    def words(self, numbers: Sequence[int]) -> list[tuple[str, int, int]]:
        """Cut token numbers into words: (word, first, past the last) for each, counted in ``numbers``."""
        found: list[tuple[str, int, int]] = []
        begin, end = None, 0
        for position, number in enumerate([*numbers, None]):
            if number in self.special_ids:
                continue
            token = None if number is None else self.tokens[number]
            if begin is not None and (token is None or self._ends_word(token)):
                if word := self.decode(numbers[begin:end]):
                    found.append((word, begin, end))
                begin = None
            if begin is None and token is not None and not (self.kind == "characters" and token == " "):
                begin = position
            end = position + 1
        return found

    def starts_word(self, number: int) -> bool:
        """Whether a token begins a new word whatever stands before it; of characters, the space that parts words."""
        return number not in self.special_ids and self._ends_word(self.tokens[number])

    def _ends_word(self, following: str) -> bool:
        if self.kind == "words":
            return True
        return following == " " if self.kind == "characters" else following.startswith(WORD_START)

    def _number(self, part: str) -> int:
        number = self._numbers.get(part, self.unknown_id)
        if number is None:
            what = "the character" if self.kind == "characters" else "the word" if self.kind == "words" else "the piece"
            raise AuriscopeError(f"{what} {part!r} is none of the model's {len(self)} tokens; normalise the text first")
        return number

    def _segment(self, text: str) -> list[str]:
        if not text.split():
            return []
        pieces: list[str] = self._segmenter.encode(WORD_START + WORD_START.join(text.split())).tokens
        return pieces

    def _merge(self, text: str) -> list[str]:
        pieces = [piece for part in self._parts(text) for piece in self._merged(part)]
        # A run of what cannot be written is unknown once, as in the other kinds of pieces.
        if self.unknown_id is None:
            return pieces
        known = self._numbers
        return [
            piece for place, piece in enumerate(pieces) if place == 0 or piece in known or pieces[place - 1] in known
        ]

    def _parts(self, text: str) -> list[str]:
        parts = [WORD_START + word for word in text.split()]
        return ["".join(parts)] if self._across_words else parts

    @cached_property
    def _across_words(self) -> bool:
        """Whether a piece reaches from one word into the next."""
        return any(WORD_START in token[1:] for token in self._numbers)

    def _merged(self, part: str) -> list[str]:
        pieces = self._cuts.get(part)
        if pieces is None:
            pieces = list(part)
            scores = self._scores_of_pieces
            while True:
                joint = [scores.get(first + second, -math.inf) for first, second in itertools.pairwise(pieces)]
                best = max(joint, default=-math.inf)
                if best == -math.inf:
                    break
                place = joint.index(best)
                pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
            if len(self._cuts) < _REMEMBERED:
                self._cuts[part] = pieces
        return pieces

    @cached_property
    def _cuts(self) -> dict[str, list[str]]:
        return {}

    @cached_property
    def _scores_of_pieces(self) -> dict[str, float]:
        self._check_scores()
        return {piece: self.scores[number] for piece, number in self._numbers.items()}

    def _check_scores(self) -> None:
        if len(self.scores) != len(self.tokens):
            raise AuriscopeError(f"{len(self.tokens)} pieces need as many scores, not {len(self.scores)}")

    @cached_property
    def _segmenter(self) -> Segmenter:
        from tokenizers import Tokenizer as Segmenter
        from tokenizers.models import Unigram

        self._check_scores()
        # What is no text is scored so low that it is never taken for a piece of one.
        pairs = [
            (token, -1e4 if number in self.special_ids else score)
            for number, (token, score) in enumerate(zip(self.tokens, self.scores, strict=True))
        ]
        if self.unknown_id is None:
            # Something must stand for what cannot be written, for that to be found out by its name.
            return Segmenter(Unigram([*pairs, (UNKNOWN, -1e4)], unk_id=len(pairs)))
        return Segmenter(Unigram(pairs, unk_id=self.unknown_id))


def characters(alphabet: Iterable[str]) -> Tokenizer:
    """Make a tokenizer of single characters: blank, end of sentence, then the alphabet in its order."""
    return Tokenizer((BLANK, EOS, *dict.fromkeys(alphabet)))


def words(vocabulary: Iterable[str]) -> Tokenizer:
    """Make a tokenizer of whole words: blank, end of sentence, then the words in their order."""
    return Tokenizer((BLANK, EOS, *dict.fromkeys(vocabulary)), kind="words")
