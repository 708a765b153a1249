"""Word error and character error: what was recognised against what was said, counted and aligned. Needs no torch.

The error is all edits over all words of the references. Of all alignments with the fewest edits the one is taken that
costs least by the weights of NIST's sclite (a substitution 4, an insertion or a deletion 3), which is the one with the
fewest substitutions; so the counts are unique, and their sum is what every other tool finds. With ``weights="sclite"``
the cost by those weights comes first, which may take more edits.

Source: NIST SCTK, ``sclite``; V. Levenshtein, "Binary codes capable of correcting deletions, insertions, and
reversals" (1966).
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Indel, Levenshtein
from rapidfuzz.process import cpdist

from auriscope.errors import AuriscopeError
from auriscope.metrics.accumulate import Summary, summarize_ratio

Weights = Literal["levenshtein", "sclite"]
Kind = Literal["correct", "substitution", "insertion", "deletion"]
Counts = NDArray[np.int64]

_MOST_CELLS = 1 << 25
"""Of the table that an alignment is read from, a byte each; more are aligned in halves."""
_BLOCK = 1 << 16
"""Characters whose words are told apart at a time."""
_SLOT_BITS = 14
_FIRST_CODE, _MOST_WORDS = 0xE000, 1_000_000
"""Code points from here on are no surrogates, and so many of them are below the last one."""


@dataclass(frozen=True)
class Errors:
    """Edits that turn the references into the hypotheses, and the size of the references, in words or characters.

    ``per_utterance`` (utterances, 4) holds substitutions, insertions, deletions and size of each.
    """

    substitutions: int
    insertions: int
    deletions: int
    size: int
    per_utterance: Counts

    @property
    def edits(self) -> int:
        """Substitutions, insertions and deletions together."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Edits over the size of the references, as a fraction; it may be above 1.

        Without a reference it is 0 if nothing was recognised either, and else infinite.
        """
        return _rate(self.edits, self.size)

    @property
    def rates(self) -> NDArray[np.float64]:
        """The rate of each utterance, (utterances,)."""
        return np.array([_rate(sum(row[:3]), row[3]) for row in self.per_utterance.tolist()], dtype=np.float64)

    @property
    def utterance_error(self) -> float:
        """The share of utterances with at least one edit; 0 of none."""
        wrong = self.per_utterance[:, :3].sum(axis=1) > 0
        return float(wrong.mean()) if wrong.size else 0.0

    def interval(self, clusters: Sequence[Any] | None = None, *, confidence: float = 0.95, seed: int = 0) -> Summary:
        """The rate with its bootstrap interval, utterances being resampled, or whole ``clusters`` such as speakers.

        See :func:`~auriscope.metrics.accumulate.summarize_ratio`.
        """
        edits = self.per_utterance[:, :3].sum(axis=1)
        return summarize_ratio(edits, self.per_utterance[:, 3], clusters, confidence=confidence, seed=seed)


class WordErrors(Errors):
    """:class:`Errors` in words."""

    @property
    def wer(self) -> float:
        """The word error, as a fraction: :attr:`Errors.rate`."""
        return self.rate

    @property
    def num_words(self) -> int:
        """Words of the references."""
        return self.size


class CharacterErrors(Errors):
    """:class:`Errors` in characters."""

    @property
    def cer(self) -> float:
        """The character error, as a fraction: :attr:`Errors.rate`."""
        return self.rate

    @property
    def num_characters(self) -> int:
        """Characters of the references, spaces between words among them."""
        return self.size


class Operation(NamedTuple):
    """A place of an alignment: a word of each side, or of one alone and None of the other."""

    kind: Kind
    hypothesis: str | None
    reference: str | None


def word_errors(
    hypotheses: Sequence[str], references: Sequence[str], *, weights: Weights = "levenshtein"
) -> WordErrors:
    """Count the word errors of texts, utterance by utterance; words are what white space parts, and case counts.

    Raises ``AuriscopeError`` unless there are as many hypotheses as references.

    >>> errors = word_errors(["the cat sat", "on a mat"], ["the cat sat down", "on the mat"])
    >>> errors.substitutions, errors.insertions, errors.deletions, errors.num_words
    (1, 0, 1, 7)
    >>> round(errors.wer, 3)
    0.286
    """
    _check(hypotheses, references, weights)
    return WordErrors(*_count(*_WordCodes().pairs(hypotheses, references), weights))


def character_errors(
    hypotheses: Sequence[str], references: Sequence[str], *, weights: Weights = "levenshtein"
) -> CharacterErrors:
    """Count the character errors of texts; white space between words counts as one space, that at the ends as nothing.

    Raises ``AuriscopeError`` unless there are as many hypotheses as references.

    >>> round(character_errors(["the cat"], ["the  bat "]).cer, 3)
    0.143
    """
    _check(hypotheses, references, weights)
    heard, said = ([" ".join(text.split()) for text in texts] for texts in (hypotheses, references))
    return CharacterErrors(*_count(heard, said, weights))


def align(hypothesis: Sequence[str], reference: Sequence[str], *, weights: Weights = "levenshtein") -> list[Operation]:
    """Align two lists of words, or two texts by their characters.

    The counts are those of :func:`word_errors`. Where several alignments have them, substitutions stand as late as may
    be. Time goes with the product of the lengths, memory has a bound.

    >>> [operation.kind for operation in align("a x c d".split(), "a b c".split())]
    ['correct', 'substitution', 'correct', 'insertion']
    """
    _check((), (), weights)
    numbers: dict[str, int] = {}
    hyp, ref = (
        np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)
        for words in (hypothesis, reference)
    )
    costs = _costs(weights, len(hyp) + len(ref) + 1)
    found = []
    row = column = 0
    for kind in _path(hyp, ref, costs):
        heard = None if kind == "deletion" else hypothesis[column]
        said = None if kind == "insertion" else reference[row]
        found.append(Operation(kind, heard, said))
        column += heard is not None
        row += said is not None
    return found


def three_lines(operations: Sequence[Operation]) -> str:
    """Write an alignment as sclite does: reference, hypothesis and verdicts, word under word.

    Errors are upper-case, everything else is lower-case, stars stand where a word is missing.

    >>> print(three_lines(align("the cat is sitting".split(), "the cat sat".split())))
    REF:  the cat ** SAT
    HYP:  the cat IS SITTING
    Eval:         I  S
    """
    columns: list[tuple[str, str, str]] = []
    for kind, heard, said in operations:
        if kind == "correct":
            columns.append(((said or "").lower(), (heard or "").lower(), ""))
        elif kind == "substitution":
            one, other = (said or ""), (heard or "")
            # Two that differ in case alone are shown as they are.
            if one.upper() != other.upper():
                one, other = one.upper(), other.upper()
            columns.append((one, other, "S"))
        elif kind == "insertion":
            columns.append(("*" * len(heard or ""), (heard or "").upper(), "I"))
        else:
            columns.append(((said or "").upper(), "*" * len(said or ""), "D"))
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for name, cells in zip(
        ("REF: ", "HYP: ", "Eval:"), zip(*columns, strict=True) if columns else ((), (), ()), strict=True
    ):
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append(" ".join((name, *padded)).rstrip())
    return "\n".join(lines)


def _check(hypotheses: Sequence[str], references: Sequence[str], weights: str) -> None:
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise TypeError("give lists of texts, not a text")
    if len(hypotheses) != len(references):
        raise AuriscopeError(
            f"{len(hypotheses)} hypotheses do not go with {len(references)} references: there must be one for each"
        )
    if weights not in get_args(Weights):
        raise ValueError(f"weights is {weights!r}; it must be one of {', '.join(get_args(Weights))}")


def _rate(edits: int, size: int) -> float:
    if size == 0:
        return math.inf if edits else 0.0
    return edits / size


class _Costs(NamedTuple):
    """What an edit costs, such that the least sum of them has the counts that are wanted."""

    gap: int
    substitution: int


def _costs(weights: Weights, large: int) -> _Costs:
    """The costs by which one criterion comes after the other; ``large`` is more than an alignment has edits."""
    if weights == "levenshtein":
        # Fewest edits, then fewest substitutions: that is least by 4/3/3, three times the edits being the rest of it.
        return _Costs(large, large + 1)
    # Least by 4/3/3, then fewest edits.
    return _Costs(3 * large + 1, 4 * large + 1)


def _count(hypotheses: list[str], references: list[str], weights: Weights) -> tuple[int, int, int, int, Counts]:
    """Count substitutions, insertions, deletions and size, each unit of the texts being a character."""
    heard = np.array([len(text) for text in hypotheses], dtype=np.int64)
    said = np.array([len(text) for text in references], dtype=np.int64)
    large = int((heard + said).max(initial=0)) + 1
    gap, substitution = _costs(weights, large)
    exact = {"weights": (gap, gap, substitution)}

    def distances(scorer: Any, places: Counts | None = None, options: dict[str, Any] | None = None) -> Counts:
        pairs = (
            (texts if places is None else [texts[place] for place in places]) for texts in (hypotheses, references)
        )
        found: Counts = cpdist(*pairs, scorer=scorer, scorer_kwargs=options, dtype=np.int64)
        return found

    if weights == "sclite":
        costs, edits = np.divmod(distances(Levenshtein.distance, options=exact), large)
        substitutions = costs - 3 * edits
    else:
        edits = distances(Levenshtein.distance)
        # What is beyond the difference of the lengths is substitutions, or pairs of an insertion and a deletion. It is
        # certainly the former if as many edits are saved by having substitutions at all, each being one of both.
        substitutions = edits - np.abs(heard - said)
        unsure = np.flatnonzero(substitutions > 1)
        unsure = unsure[distances(Indel.distance, unsure) - edits[unsure] < substitutions[unsure]]
        substitutions[unsure] = distances(Levenshtein.distance, unsure, exact) - gap * edits[unsure]
    insertions = (edits - substitutions + heard - said) // 2
    table = np.stack((substitutions, insertions, insertions - heard + said, said), axis=1)
    totals = table.sum(axis=0).tolist()
    return totals[0], totals[1], totals[2], totals[3], table


class _WordCodes:
    """Writes texts with a character for every word, the same for the same word of a pair.

    Splitting texts into words, an object each, would take several times as long as all the rest. It is done in blocks
    that stay in the cache, in memory that is there already.
    """

    def __init__(self) -> None:
        self.sums = np.zeros(0, dtype=np.uint64)
        self.powers = self.sums
        self.owners = np.zeros(1 << _SLOT_BITS, dtype=np.int64)

    def pairs(self, hypotheses: Sequence[str], references: Sequence[str]) -> tuple[list[str], list[str]]:
        """Write all hypotheses and all references."""
        found: tuple[list[str], list[str]] = ([], [])
        first = size = 0
        for number, (one, other) in enumerate(zip(hypotheses, references, strict=True), 1):
            size += len(one) + len(other)
            if size >= _BLOCK or number == len(references):
                codes = self._block([*hypotheses[first:number], *references[first:number]])
                found[0].extend(codes[: number - first])
                found[1].extend(codes[number - first :])
                first, size = number, 0
        return found

    def _block(self, texts: list[str]) -> list[str]:
        joined = " ".join(("", *texts, ""))
        if joined.isascii():
            characters: NDArray[Any] = np.frombuffer(joined.encode("ascii"), np.uint8)
            # Mostly there is nothing but letters and spaces.
            spaces = characters == ord(" ") if characters.min() == ord(" ") else _SPACES[characters]
        else:
            characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
            spaces = _SPACES[np.minimum(characters, len(_SPACES) - 1)]
        # A space stands before the first text, one behind the last.
        edges = np.flatnonzero(spaces[1:] != spaces[:-1]) + 1
        starts = edges[0::2]
        numbers = self._numbers(self._hashes(characters, starts, edges[1::2]))
        if len(numbers) > _MOST_WORDS:
            raise AuriscopeError(f"{len(numbers):,} words in one pair are too many: cut it into sentences")
        codes = (numbers + _FIRST_CODE).astype("<u4").tobytes().decode("utf-32-le")
        places = np.cumsum([0, *map(len, texts)]) + np.arange(len(texts) + 1)
        return [codes[begin:end] for begin, end in itertools.pairwise(np.searchsorted(starts, places).tolist())]

    def _hashes(self, characters: NDArray[Any], starts: Counts, ends: Counts) -> NDArray[np.uint64]:
        """Hash words by a polynomial of their characters modulo 2 ** 64 (R. Karp and M. Rabin, 1987).

        By the sums up to every character, the sum of a word is a difference, moved to the same power for all.
        """
        length = len(characters)
        if length >= len(self.sums):
            self.sums = np.zeros(max(length + 1, 2 * _BLOCK), dtype=np.uint64)
            self.powers = np.full_like(self.sums, 0x9E3779B97F4A7C15)
            self.powers[0] = 1
            np.multiply.accumulate(self.powers, out=self.powers)
        sums = self.sums[1 : length + 1]
        np.multiply(characters, self.powers[:length], out=sums)
        np.cumsum(sums, out=sums)
        moved: NDArray[np.uint64] = (self.sums[ends] - self.sums[starts]) * self.powers[length - starts]
        return moved

    def _numbers(self, hashes: NDArray[np.uint64]) -> Counts:
        """Give equal words equal numbers, and different ones different ones."""
        slots = (hashes >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)
        # Nothing is read but what has just been written, so that the table need not be cleared.
        self.owners[slots] = np.arange(len(slots))
        homeless = np.flatnonzero(hashes[self.owners[slots]] != hashes)
        slots[homeless] = (1 << _SLOT_BITS) + np.unique(hashes[homeless], return_inverse=True)[1]
        return slots


_SPACES = np.array([chr(code).isspace() for code in range(0x3002)])
"""By code point; U+3000 is the last that is white space."""


def _path(hyp: Counts, ref: Counts, costs: _Costs) -> Iterator[Kind]:
    """The operations of the cheapest alignment, from the beginning."""
    if (len(hyp) + 1) * (len(ref) + 1) <= _MOST_CELLS or len(ref) < 2:
        yield from _traced(hyp, ref, costs)
        return
    # D. Hirschberg, "A linear space algorithm for computing maximal common subsequences" (1975).
    half = len(ref) // 2
    before = _last_row(hyp, ref[:half], costs)
    behind = _last_row(hyp[::-1], ref[half:][::-1], costs)[::-1]
    cut = int((before + behind).argmin())
    yield from _path(hyp[:cut], ref[:half], costs)
    yield from _path(hyp[cut:], ref[half:], costs)


def _rows(hyp: Counts, ref: Counts, costs: _Costs) -> Iterator[tuple[Counts, Counts, Counts]]:
    """The table of least costs row by row, (hypothesis + 1) each, and those by way of a pair and of a deletion."""
    gaps = np.arange(len(hyp) + 1) * costs.gap
    above = gaps
    for word in ref:
        paired = above[:-1] + np.where(hyp == word, 0, costs.substitution)
        deleted = above + costs.gap
        cheapest = deleted.copy()
        np.minimum(cheapest[1:], paired, out=cheapest[1:])
        # Insertions go along the row: least of what is before, and a gap for each place from there.
        above = np.minimum.accumulate(cheapest - gaps) + gaps
        yield above, paired, deleted


def _last_row(hyp: Counts, ref: Counts, costs: _Costs) -> Counts:
    (row,) = deque((row for row, _, _ in _rows(hyp, ref, costs)), maxlen=1)
    return row


def _traced(hyp: Counts, ref: Counts, costs: _Costs) -> list[Kind]:
    by_pair = np.zeros((len(ref) + 1, len(hyp) + 1), dtype=bool)
    by_deletion = np.zeros_like(by_pair)
    for number, (least, paired, deleted) in enumerate(_rows(hyp, ref, costs), 1):
        by_pair[number, 1:] = least[1:] == paired
        by_deletion[number] = least == deleted
    found: list[Kind] = []
    row, column = len(ref), len(hyp)
    while row or column:
        if by_pair[row, column]:
            row, column = row - 1, column - 1
            found.append("correct" if hyp[column] == ref[row] else "substitution")
        elif by_deletion[row, column]:
            row -= 1
            found.append("deletion")
        else:
            column -= 1
            found.append("insertion")
    return found[::-1]
