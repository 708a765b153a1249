"""Language models in files of other toolkits: ARPA text, and KenLM's binaries through its own library.

D. Paul and J. Baker, "The Design for the Wall Street Journal-based CSR Corpus", 1992; K. Heafield, "KenLM: Faster and
Smaller Language Model Queries", WMT 2011. Their logarithms are to base 10, ours natural.
"""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from auriscope.errors import AuriscopeError
from auriscope.recognition.counting import Table
from auriscope.recognition.ngram import NEVER, NGram, NGramConfig, WordNGram
from auriscope.signal.outputs import written_aside
from auriscope.text.tokenizer import BLANK, EOS, UNKNOWN

_LN10 = math.log(10.0)
_BEGIN, _END, _UNKNOWN = "<s>", "</s>", "<unk>"


def read_arpa(path: str | Path) -> WordNGram:
    """Read an ARPA file (or one packed by gzip) of words into a model with the same probabilities.

    The words keep their case. Raises ``AuriscopeError``, naming the file and the line, when it is not one.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as opened:
            return _model(_Lines(path, opened))
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise AuriscopeError(f"{path}: cannot be read as an ARPA file: {error}") from error


def write_arpa(model: NGram, path: str | Path) -> None:
    """Write a model as an ARPA file, whole or not at all; a letter's space is written as the word ``<space>``."""
    tokenizer = model.tokenizer
    names = [{" ": "<space>", UNKNOWN: _UNKNOWN}.get(token, token) for token in tokenizer.tokens]
    end = tokenizer.eos_id
    assert end is not None
    written = [number for number in range(len(names)) if number not in tokenizer.special_ids]
    written += [number for number in (tokenizer.unknown_id,) if number is not None]
    tables = model.tables()
    with written_aside(Path(path)) as aside, aside.open("w", encoding="utf-8") as file:
        sizes = [len(written) + 2, *(len(table.units) for table in tables[1:])]
        file.write("\\data\\\n" + "".join(f"ngram {length}={size}\n" for length, size in enumerate(sizes, 1)))
        texts: list[str] = []
        for length, table in enumerate(tables, start=1):
            file.write(f"\n\\{length}-grams:\n")
            last = length == len(tables)
            lines = []
            values = list(zip(table.log_probs.tolist(), table.backoffs.tolist(), strict=True))
            if length == 1:
                texts = [_BEGIN if number == end else name for number, name in enumerate(names)]
                lines.append(_line(-99.0 * _LN10, _BEGIN, None if last else values[end][1]))
                lines.append(_line(values[end][0], _END, None))
                for number in written:
                    log_prob, backoff = values[number]
                    lines.append(_line(log_prob, names[number], None if last else backoff))
            else:
                longer = []
                for context, unit, (log_prob, backoff) in zip(table.contexts, table.units, values, strict=True):
                    longer.append(f"{texts[context]} {_END if unit == end else names[unit]}")
                    lines.append(_line(log_prob, longer[-1], None if last or unit == end else backoff))
                texts = longer
            file.writelines(lines)
        file.write("\n\\end\\\n")


def _line(log_prob: float, text: str, backoff: float | None) -> str:
    return f"{log_prob / _LN10:.7f}\t{text}" + ("" if backoff is None else f"\t{backoff / _LN10:.7f}") + "\n"


class _Lines:
    """The lines of a file, and where in it one is."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path, self.number = path, 0
        self._lines: Iterator[str] = iter(file)

    def next(self) -> str:
        """The next line that is not empty; at the end of the file ``AuriscopeError``."""
        for line in self._lines:
            self.number += 1
            if line.strip():
                return line.strip("\r\n")
        raise self.error("ends before \\end\\")

    def error(self, what: str) -> AuriscopeError:
        return AuriscopeError(f"{self.path}, line {self.number}: not a valid ARPA file: {what}")


def _model(lines: _Lines) -> WordNGram:
    while (line := lines.next().strip()) != "\\data\\":
        if lines.number > 1000:
            raise lines.error("has no \\data\\")
    sizes: list[int] = []
    while (line := lines.next().strip()).startswith("ngram"):
        named, _, number = line[5:].partition("=")
        if not named.strip().isdigit() or not number.strip().isdigit() or int(named) != len(sizes) + 1:
            raise lines.error(f"{line!r} is no size of n-grams")
        sizes.append(int(number))
    if not sizes:
        raise lines.error("no sizes of n-grams follow \\data\\")
    numbers: dict[str, int] = {BLANK: 0, _BEGIN: 1, _END: 1, _UNKNOWN: 2}
    tables: list[Table] = []
    places: dict[tuple[int, ...], int] = {}
    for length, size in enumerate(sizes, start=1):
        if line != f"\\{length}-grams:":
            raise lines.error(f"{line!r} stands where \\{length}-grams: belongs")
        seen: set[str] = set()
        rows = [_row(lines, length, len(sizes), numbers, places, seen) for _ in range(size)]
        table, places = _unigrams(rows, len(numbers)) if length == 1 else _table(rows, places)
        tables.append(table)
        line = lines.next().strip()
    if line != "\\end\\":
        raise lines.error(f"{line!r} stands where \\end\\ belongs; are there more n-grams than \\data\\ says?")
    words = [word for word, number in numbers.items() if number > 2]
    model = WordNGram(NGramConfig((BLANK, EOS, UNKNOWN, *words), "words", order=len(sizes)))
    model.set_tables(tables)
    return model


_Row = tuple[tuple[int, ...], float, float, bool]


def _row(
    lines: _Lines,
    length: int,
    longest: int,
    numbers: dict[str, int],
    contexts: Mapping[tuple[int, ...], int],
    seen: set[str],
) -> _Row:
    """An n-gram's units, its log-probability and backoff, and whether it is the sentence's beginning alone."""
    line = lines.next()
    parts = line.split()
    if len(parts) not in ((length + 1,) if length == longest else (length + 1, length + 2)):
        raise lines.error(f"{line!r} is no n-gram of {length} words")
    try:
        log_prob = float(parts[0]) * _LN10
        backoff = float(parts[length + 1]) * _LN10 if len(parts) > length + 1 else 0.0
    except ValueError:
        raise lines.error(f"{line!r} does not begin with a logarithm, or end with one") from None
    if not (log_prob <= 0.0 and math.isfinite(backoff)):
        raise lines.error(f"{line!r} does not begin with the logarithm of a probability, or end with one of a weight")
    words = [_UNKNOWN if word.lower() == _UNKNOWN else word for word in parts[1 : length + 1]]
    text = " ".join(words)
    if text in seen:
        raise lines.error(f"the n-gram {text!r} has come before")
    seen.add(text)
    log_prob = max(log_prob, NEVER)
    if length == 1:
        # Two names stand for the sentence's ends, so that the next number is one less than there are names.
        return (numbers.setdefault(text, len(numbers) - 1),), log_prob, backoff, text == _BEGIN
    if _BEGIN in words[1:] or _END in words[:-1]:
        raise lines.error(f"the n-gram {text!r} has an end of a sentence within")
    try:
        units = tuple(numbers[word] for word in words)
    except KeyError as error:
        raise lines.error(f"the word {error.args[0]!r} is none of the unigrams") from None
    if units[:-1] not in contexts:
        raise lines.error(f"the n-gram {text!r} has a context that is none of the n-grams of {length - 1}")
    return units, log_prob, backoff, False


def _unigrams(rows: Sequence[_Row], num_words: int) -> tuple[Table, dict[tuple[int, ...], int]]:
    size = num_words - 1  # two names stand for the sentence's ends
    log_probs, backoffs = np.full(size, NEVER), np.zeros(size)
    for units, log_prob, backoff, begins in rows:
        if not begins:
            log_probs[units[0]] = log_prob
        if begins or units[0] != 1:
            backoffs[units[0]] = backoff
    table = Table(np.zeros(size, np.int64), np.arange(size), log_probs, backoffs)
    return table, {(number,): number for number in range(size)}


def _table(rows: Sequence[_Row], contexts: Mapping[tuple[int, ...], int]) -> tuple[Table, dict[tuple[int, ...], int]]:
    keyed = sorted((contexts[units[:-1]], units[-1], log_prob, backoff, units) for units, log_prob, backoff, _ in rows)
    places, lasts, log_probs, backoffs = ([row[column] for row in keyed] for column in range(4))
    table = Table(
        np.array(places, dtype=np.int64),
        np.array(lasts, dtype=np.int64),
        np.array(log_probs, dtype=np.float64),
        np.array(backoffs, dtype=np.float64),
    )
    return table, {row[4]: place for place, row in enumerate(keyed)}


class KenLM:
    """A language model of words in KenLM's binary format, asked through the library ``kenlm``."""

    def __init__(self, path: str | Path) -> None:
        """Open a file; ``AuriscopeError`` when it cannot be, was built without its words, or the library is missing."""
        path = Path(path)
        self.vocabulary = _words_of_binary(path)
        try:
            import kenlm
        except ImportError as error:
            raise AuriscopeError("KenLM's binaries need the library kenlm: pip install 'auriscope[kenlm]'") from error
        try:
            self._model = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise AuriscopeError(f"{path}: KenLM cannot read it: {' '.join(str(error).split())}") from error
        self._new: Any = kenlm.State

    def start_state(self) -> Any:
        """The state before the first word."""
        state = self._new()
        self._model.BeginSentenceWrite(state)
        return state

    def score_word(self, state: Any, word: str) -> tuple[float, Any]:
        """Natural logarithm of the probability of a word after ``state``, and the state after it."""
        after = self._new()
        return self._model.BaseScore(state, word, after) * _LN10, after

    def score_end(self, state: Any) -> float:
        """Natural logarithm of the probability that the sentence ends after ``state``."""
        return float(self._model.BaseScore(state, _END, self._new()) * _LN10)


KENLM_MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"
"""What a binary of KenLM begins with."""
_PARAMETERS, _SIZES = 88, 108
"""Where its order, kind and so on are, and where its numbers of n-grams, unigrams first."""


def _words_of_binary(path: Path) -> list[str]:
    """The words of a binary, which KenLM writes behind everything else, each ended by a zero byte."""
    try:
        with path.open("rb") as file:
            head = file.read(_SIZES + 8)
            if not head.startswith(KENLM_MAGIC) or len(head) < _SIZES + 8:
                raise AuriscopeError(f"{path}: is not a binary of KenLM, format version 5")
            has_words = struct.unpack_from("<B3xfiB", head, _PARAMETERS)[3]
            (number,) = struct.unpack_from("<Q", head, _SIZES)
            if not has_words:
                raise AuriscopeError(f"{path}: was built without its words; build it again with them")
            size = file.seek(0, 2)
            taken = 0
            while taken < size:
                taken = min(size, max(2 * taken, 16 * number + 1024))
                file.seek(size - taken)
                words = _last_words(file.read(), number)
                if words is not None:
                    return [word for word in words if word not in (_UNKNOWN, _BEGIN, _END)]
    except OSError as error:
        raise AuriscopeError(f"{path}: cannot be read: {error.strerror}") from error
    raise AuriscopeError(f"{path}: is damaged: its {number} words are not at its end")


def _last_words(tail: bytes, number: int) -> list[str] | None:
    """The last ``number`` words, of which ``<unk>`` is the first; None if the tail does not reach back to it."""
    parts = tail.split(b"\0")
    if len(parts) <= number + 1 or parts[-1]:
        return None
    # What is before the first word need not end with a zero byte.
    if not parts[-number - 1].endswith(_UNKNOWN.encode()):
        return None
    return [_UNKNOWN, *(part.decode("utf-8", errors="replace") for part in parts[-number:-1])]
