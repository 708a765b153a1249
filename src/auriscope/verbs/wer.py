"""Word error of two text files: what was recognised against what was said, an utterance a line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from auriscope.errors import AuriscopeError
from auriscope.metrics.wer import (
    CharacterErrors,
    Weights,
    WordErrors,
    align,
    character_errors,
    three_lines,
    word_errors,
)
from auriscope.signal.outputs import printable, reason
from auriscope.text.normalise import normaliser

StrPath = str | os.PathLike[str]
Format = Literal["plain", "kaldi", "trn"]


@dataclass(frozen=True)
class WerResult:
    """Word error of a hypothesis file against a reference file.

    ``names`` are the utterances' names, or the numbers of their lines, from 1; ``hypotheses`` and ``references`` their
    texts as they were compared. ``interval`` has the word error's ends with 95 % confidence, utterances being
    resampled; None with fewer than two utterances. ``character_errors`` is None unless it was asked for.
    """

    ref: str
    hyp: str
    normalise: str
    weights: Weights
    names: tuple[str, ...]
    hypotheses: tuple[str, ...]
    references: tuple[str, ...]
    errors: WordErrors
    interval: tuple[float, float] | None
    character_errors: CharacterErrors | None = None

    @property
    def wer(self) -> float:
        """The word error as a fraction: all edits over all words of the references."""
        return self.errors.wer

    @property
    def cer(self) -> float | None:
        """The character error as a fraction."""
        return None if self.character_errors is None else self.character_errors.cer

    def alignment(self, number: int) -> str:
        """The alignment of an utterance, from 0, in three lines."""
        words = self.hypotheses[number].split(), self.references[number].split()
        return three_lines(align(*words, weights=self.weights))

    def to_dict(self, *, per_utterance: bool = False) -> dict[str, Any]:
        """What ``--json`` prints."""
        errors = self.errors
        found: dict[str, Any] = {
            "ref": self.ref,
            "hyp": self.hyp,
            "normalise": self.normalise,
            "wer": errors.wer,
            "low": None if self.interval is None else self.interval[0],
            "high": None if self.interval is None else self.interval[1],
            "substitutions": errors.substitutions,
            "insertions": errors.insertions,
            "deletions": errors.deletions,
            "num_words": errors.num_words,
            "num_utterances": len(self.names),
            "utterance_error": errors.utterance_error,
        }
        if (characters := self.character_errors) is not None:
            found |= {
                "cer": characters.cer,
                "character_substitutions": characters.substitutions,
                "character_insertions": characters.insertions,
                "character_deletions": characters.deletions,
                "num_characters": characters.num_characters,
            }
        if per_utterance:
            found["utterances"] = [
                {
                    "name": name,
                    "wer": rate,
                    "substitutions": row[0],
                    "insertions": row[1],
                    "deletions": row[2],
                    "num_words": row[3],
                    "alignment": self.alignment(number).split("\n"),
                }
                for number, (name, rate, row) in enumerate(
                    zip(self.names, errors.rates.tolist(), errors.per_utterance.tolist(), strict=True)
                )
            ]
        return found


def wer(
    hyp: StrPath,
    ref: StrPath,
    *,
    format: Format = "plain",
    normalise: str | Iterable[str] = "none",
    cer: bool = False,
    weights: Weights = "levenshtein",
) -> WerResult:
    """Find the word error of a file of hypotheses against a file of references.

    Args:
        hyp: what was recognised, an utterance a line, UTF-8.
        ref: what was said.
        format: "plain": line by line. "kaldi": a name before every text. "trn": a name in brackets behind every text.
            With names, the order of the lines does not matter.
        normalise: names of :data:`~auriscope.text.normalise.NORMALISERS`, of which several are parted by commas.
        cer: whether to count characters as well.
        weights: see :mod:`auriscope.metrics.wer`.

    Raises:
        AuriscopeError: a file cannot be read, a line is not of the format, or an utterance is missing in one of them.
    """
    names = normalise if isinstance(normalise, str) else ",".join(normalise)
    run = normaliser(names)
    said, heard = read_transcripts(ref, format), read_transcripts(hyp, format)
    _check_names(said, heard, ref, hyp, format)
    references = [run(text) for text in said.values()]
    hypotheses = [run(heard[name]) for name in said]
    errors = word_errors(hypotheses, references, weights=weights)
    summary = errors.interval()
    return WerResult(
        ref=os.fspath(ref),
        hyp=os.fspath(hyp),
        normalise=names,
        weights=weights,
        names=tuple(said),
        hypotheses=tuple(hypotheses),
        references=tuple(references),
        errors=errors,
        interval=None if summary.low is None or summary.high is None else (summary.low, summary.high),
        character_errors=character_errors(hypotheses, references, weights=weights) if cer else None,
    )


def read_transcripts(path: StrPath, format: Format = "plain") -> dict[str, str]:
    """Read a file of transcripts, an utterance a line: texts by name, or by the number of the line, from 1.

    An empty line is an empty utterance; with names it is nothing. Raises ``AuriscopeError``, which names the line, when
    it is not of the format or its name has come before.
    """
    if format not in get_args(Format):
        raise AuriscopeError(f"the format {format!r} is none of {', '.join(get_args(Format))}")
    shown = printable(path)
    try:
        content = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise AuriscopeError(f"{shown}: cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise AuriscopeError(f"{shown}: is not text in UTF-8 (byte {error.start})") from error
    lines = content.replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if format == "plain":
            found[str(number)] = line
            continue
        if not line.strip():
            continue
        if format == "kaldi":
            name, text = (*line.split(None, 1), "")[:2]
        else:
            named = re.fullmatch(r"(.*)\(([^()\s]+)\)\s*", line)
            if named is None:
                raise AuriscopeError(f"{shown}, line {number}: there is no name in brackets behind the text")
            text, name = named[1], named[2]
        if name in found:
            raise AuriscopeError(f"{shown}, line {number}: the utterance {name!r} has come before")
        found[name] = text
    return found


def _check_names(said: dict[str, str], heard: dict[str, str], ref: StrPath, hyp: StrPath, format: Format) -> None:
    if format == "plain":
        if len(said) != len(heard):
            raise AuriscopeError(
                f"{printable(ref)} has {_lines(len(said))} and {printable(hyp)} {_lines(len(heard))}: "
                "each must have one for every utterance, in the same order"
            )
        return
    for one, other, path in ((said, heard, hyp), (heard, said, ref)):
        missing = [name for name in one if name not in other]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise AuriscopeError(f"{printable(path)}: lacks the utterance {missing[0]!r}{more}")


def _lines(number: int) -> str:
    return f"{number} line" if number == 1 else f"{number} lines"
