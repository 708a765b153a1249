"""Manifests: one CSV file that says what a corpus holds, a row per entry."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from auriscope.errors import CorpusError

SPLITS = ("train", "valid", "test")
_OWN_COLUMNS = ("path", "speaker", "sex", "text", "label", "start", "end", "duration_s", "split")


@dataclass(frozen=True)
class Entry:
    """One row of a manifest: a file, or a stretch of a file, and what is known about it.

    ``path`` is relative to the manifest's folder, with forward slashes. ``split`` is "train", "valid" or "test".
    ``start_frame`` and ``end_frame`` bound the stretch in samples of the file's own rate (None: the whole file).
    ``sex`` is "F", "M" or None. Columns of other names are kept as text in ``more``.
    """

    path: str
    split: str
    duration_seconds: float | None = None
    speaker: str | None = None
    sex: str | None = None
    text: str | None = None
    label: str | None = None
    start_frame: int | None = None
    end_frame: int | None = None
    more: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)


def read_manifest(path: str | Path) -> list[Entry]:
    """Read a manifest: the entries in the order of the file.

    Raises :class:`~auriscope.errors.CorpusError`, naming the file and the line, when the file is missing, is not
    UTF-8 CSV, lacks the columns ``path`` and ``split``, or holds a row that is not valid.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = reader.fieldnames or ()
            missing = [name for name in ("path", "split") if name not in columns]
            if missing:
                raise CorpusError(f"{path}: the manifest has no column {missing[0]!r}; its first line must name it")
            return [_entry(row, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: cannot be read as a manifest: {error}") from error


def write_manifest(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write a manifest that :func:`read_manifest` reads back to the same entries.

    Columns that no entry uses are left out. The file appears whole or not at all. Raises
    :class:`~auriscope.errors.CorpusError` when an entry is not valid or the file cannot be written.
    """
    path = Path(path)
    rows = [_row(entry) for entry in entries]
    for number, row in enumerate(rows, start=2):
        _entry(row, f"{path}, line {number}")
    more = sorted({name for row in rows for name in row} - set(_OWN_COLUMNS))
    used = [name for name in _OWN_COLUMNS if name in ("path", "split") or any(name in row for row in rows)]
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=[*used, *more], restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise CorpusError(f"{path}: cannot write the manifest: {error}") from error


def _entry(row: Mapping[Any, Any], where: str) -> Entry:
    if None in row or any(value is None for value in row.values()):
        raise CorpusError(f"{where}: the row has more or fewer fields than the first line names")
    text = {str(name): str(value) for name, value in row.items()}
    relative = PurePosixPath(text["path"])
    if not text["path"] or relative.is_absolute() or ".." in relative.parts or "\0" in text["path"]:
        raise CorpusError(f"{where}: path {text['path']!r} must be relative and stay inside the corpus folder")
    if text["split"] not in SPLITS:
        raise CorpusError(f"{where}: split {text['split']!r} must be one of {', '.join(SPLITS)}")
    # Some corpora write the sex in lower case, and all leave it empty where it was not stated.
    sex = text.get("sex", "").upper()
    if sex not in ("F", "M", ""):
        raise CorpusError(f"{where}: sex {text['sex']!r} must be F, M or empty")
    duration_seconds = _number(text.get("duration_s", ""), "duration_s", where)
    if duration_seconds is not None and duration_seconds <= 0:
        raise CorpusError(f"{where}: duration_s {text['duration_s']!r} must be above zero")
    start, end = (_frame(text.get(name, ""), name, where) for name in ("start", "end"))
    if (start is None) != (end is None) or (start is not None and end is not None and end <= start):
        raise CorpusError(f"{where}: start and end must both be given, end above start")
    return Entry(
        path=text["path"],
        split=text["split"],
        duration_seconds=duration_seconds,
        speaker=text.get("speaker") or None,
        sex=sex or None,
        text=text.get("text") or None,
        label=text.get("label") or None,
        start_frame=start,
        end_frame=end,
        more=MappingProxyType({name: value for name, value in text.items() if name not in _OWN_COLUMNS and value}),
    )


def _number(text: str, column: str, where: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise CorpusError(f"{where}: {column} {text!r} is not a number")
    return number


def _frame(text: str, column: str, where: str) -> int | None:
    number = _number(text, column, where)
    if number is None:
        return None
    if number < 0 or number != int(number):
        raise CorpusError(f"{where}: {column} {text!r} must be a whole number of samples, zero or above")
    return int(number)


def _row(entry: Entry) -> dict[str, str]:
    values: dict[str, object] = {
        "path": entry.path,
        "speaker": entry.speaker,
        "sex": entry.sex,
        "text": entry.text,
        "label": entry.label,
        "start": entry.start_frame,
        "end": entry.end_frame,
        "duration_s": entry.duration_seconds,
        "split": entry.split,
        **entry.more,
    }
    return {name: str(value) for name, value in values.items() if value is not None}
