"""Lists of verification trials: which pairs of recordings to compare, and where it is known, whether of one speaker.

Two forms are read. CSV with the columns ``first`` and ``second`` and, if the answers are known, ``target`` (1 or 0). Or
text, a trial a line: two paths and, before or behind them, if it is known, ``1`` or ``0``, ``target`` or
``nontarget``; so VoxCeleb's lists are written (``1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav``).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from auriscope.errors import CorpusError
from auriscope.signal.outputs import StrPath, reason, written_aside

_ANSWERS = {"1": True, "0": False, "target": True, "nontarget": False, "imp": False, "impostor": False, "tgt": True}


@dataclass(frozen=True)
class Trial:
    """Two recordings by their paths as written; ``target``: whether of one speaker, None where that is not known."""

    first: str
    second: str
    target: bool | None = None


def read_trials(path: StrPath) -> list[Trial]:
    """Read a trial list, CSV if it ends in ``.csv``; ``CorpusError`` names the file, the line and what is wrong.

    The answers of all trials must be known, or of none.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(f"{path}: there is no such trial list") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read as a trial list ({reason(error)})") from None
    found = _from_csv(text, path) if path.suffix.lower() == ".csv" else _from_lines(text, path)
    if not found:
        raise CorpusError(f"{path}: holds no trials")
    if len({trial.target is None for trial in found}) > 1:
        raise CorpusError(
            f"{path}: some trials say whether they are of one speaker and others do not; complete the list"
        )
    return found


def write_scores(path: Path, trials: Iterable[Trial], scores: Iterable[float | None]) -> None:
    """Write trials with their scores as CSV, whole or not at all; a trial without a score has an empty field."""
    with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["first", "second", "target", "score"])
        for trial, score in zip(trials, scores, strict=True):
            target = "" if trial.target is None else int(trial.target)
            writer.writerow([trial.first, trial.second, target, "" if score is None else f"{score:.6f}"])


def speakers_of(trials: Sequence[Trial]) -> tuple[list[int], list[int]]:
    """Number the speakers of trials whose answer is known: those of the first and of the second recordings.

    Recordings that a target trial joins, directly or by way of others, are of one speaker. A recording that none joins
    to any other is taken for a speaker of its own.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for trial in trials:
        one, other = root(trial.first), root(trial.second)
        if trial.target:
            parent[other] = one
    codes: dict[str, int] = {}
    first = [codes.setdefault(root(trial.first), len(codes)) for trial in trials]
    second = [codes.setdefault(root(trial.second), len(codes)) for trial in trials]
    return first, second


def _from_csv(text: str, path: Path) -> list[Trial]:
    found = []
    try:
        rows = csv.DictReader(text.splitlines(), strict=True)
        missing = [name for name in ("first", "second") if name not in (rows.fieldnames or ())]
        if missing:
            raise CorpusError(f"{path}: has no column {missing[0]!r}; its first line must name first and second")
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if not row["first"] or not row["second"]:
                raise CorpusError(f"{where}: lacks a recording; a trial names first and second")
            answer = (row.get("target") or "").strip().lower()
            if answer and answer not in _ANSWERS:
                raise CorpusError(f"{where}: target {answer!r} must be 1 or 0")
            found.append(Trial(row["first"], row["second"], _ANSWERS.get(answer)))
    except csv.Error as error:
        raise CorpusError(f"{path}: cannot be read as CSV ({reason(error)})") from None
    return found


def _from_lines(text: str, path: Path) -> list[Trial]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) == 2:
            found.append(Trial(words[0], words[1]))
        elif len(words) == 3 and words[0].lower() in _ANSWERS:
            found.append(Trial(words[1], words[2], _ANSWERS[words[0].lower()]))
        elif len(words) == 3 and words[2].lower() in _ANSWERS:
            found.append(Trial(words[0], words[1], _ANSWERS[words[2].lower()]))
        else:
            raise CorpusError(
                f"{path}, line {number}: is no trial; write two paths, and 1 or 0 before them (paths with spaces: CSV)"
            )
    return found
