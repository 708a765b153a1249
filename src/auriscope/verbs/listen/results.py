"""What listening to one recording gives, as data: the content of ``report.json``."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

import auriscope
from auriscope.errors import AuriscopeError
from auriscope.recognition.words import Word
from auriscope.verbs.batch import FileResult

SCHEMA_VERSION = 1
"""Grows when a key of ``report.json`` changes its meaning or goes; new keys leave it."""


@dataclass(frozen=True)
class Turn:
    """A stretch in which a talker is heard, in seconds from the start of the recording."""

    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class ListenTrack:
    """One talker's track.

    ``blind_si_snr_db`` is the estimate of its SI-SNR made without a reference, ``expected_error_db`` its expected
    absolute error, both ``None`` where nothing can be judged (silence, a few samples). ``in_range`` is false where
    the estimator was asked about sound unlike what it was trained on. ``text`` is what the talker says and ``words``
    are its words, in seconds from the start of the recording; ``text`` is ``None`` where nothing was transcribed.
    """

    path: str
    blind_si_snr_db: float | None
    expected_error_db: float | None
    in_range: bool | None
    text: str | None
    turns: tuple[Turn, ...]
    rms_dbfs: float | None
    peak_dbfs: float | None
    warnings: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class ClassHeard:
    """A class by its name, and how probable it is of the recording, of what was heard, and of what was left, 0 to 1."""

    label: str
    input: float
    interpretation: float
    rest: float


@dataclass(frozen=True)
class Classified:
    """What a classifier hears in the recording, as ``auriscope explain`` finds it.

    ``label`` is its most probable class and ``classes`` are the most probable ones. ``heard`` is the sound that speaks
    for ``label`` and ``page`` tells all about it, both by ``method``; ``files`` are the names of all that was written.
    """

    label: str
    classes: tuple[ClassHeard, ...]
    heard: str
    page: str
    method: str
    classifier: str
    interpreter: str | None
    fidelity: float | None
    faithfulness: float | None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListenResult(FileResult):
    """What listening to one recording gave; paths are as the caller gave them.

    ``num_speakers`` is how many talkers were given or counted; ``at_least`` is true where there may be more than that.
    ``model`` is ``None`` where one talker needed no separation. ``enhanced`` is the recording as it was separated,
    where ``enhancer`` took noise off it before. ``embedder`` told the voices apart where talkers share the outputs of
    ``model``. ``recognizer`` and ``language_model`` wrote the texts, and ``expected_word_error`` is what the
    recogniser's card says of it. ``classified`` is what a classifier hears, where there was one. ``settings`` and
    ``source`` say what the result was made with and from, so that the next run can tell whether it still holds;
    ``resumed`` is true where it did.
    ``sounds`` are the names of the files beside the page that it plays, when the recording is too long to go into it.
    Where ``error`` is not ``None`` it says in one line why there is nothing else.
    """

    input: str
    report: str = ""
    num_speakers: int = 0
    at_least: bool = False
    tracks: tuple[ListenTrack, ...] = ()
    warnings: tuple[str, ...] = ()
    sample_rate: int = 0
    num_channels: int = 0
    duration_seconds: float = 0.0
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    clipped_fraction: float = 0.0
    model: str | None = None
    quality_model: str | None = None
    enhanced: str | None = None
    enhancer: str | None = None
    embedder: str | None = None
    recognizer: str | None = None
    language_model: str | None = None
    expected_word_error: str | None = None
    classified: Classified | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    sounds: tuple[str, ...] = ()
    auriscope_version: str = auriscope.__version__
    command: str = ""
    schema_version: int = SCHEMA_VERSION
    resumed: bool = False
    error: str | None = None

    def to_json(self) -> str:
        """Text of ``report.json``; paths of files beside it are relative to it, so that the folder may be moved."""
        tracks = tuple(dataclasses.replace(track, path=Path(track.path).name) for track in self.tracks)
        enhanced = Path(self.enhanced).name if self.enhanced else None
        moved = dataclasses.replace(
            self,
            report=Path(self.report).name,
            tracks=tracks,
            enhanced=enhanced,
            classified=_placed(self.classified, None),
        )
        values = {key: value for key, value in moved.to_dict().items() if key != "resumed"}
        return json.dumps(values, indent=2, ensure_ascii=True, allow_nan=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ``report.json``; raises ``AuriscopeError`` when it is missing, damaged or of another version."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["schema_version"] != SCHEMA_VERSION:
                raise AuriscopeError(f"{path}: has schema version {values['schema_version']}, not {SCHEMA_VERSION}")
            result = TypeAdapter(cls).validate_python(values)
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise AuriscopeError(f"{path}: is not a report of auriscope; run listen again") from error
        folder = path.parent
        tracks = tuple(dataclasses.replace(track, path=str(folder / track.path)) for track in result.tracks)
        enhanced = str(folder / result.enhanced) if result.enhanced else None
        return dataclasses.replace(
            result,
            report=str(folder / result.report),
            tracks=tracks,
            enhanced=enhanced,
            classified=_placed(result.classified, folder),
        )


def _placed(classified: Classified | None, folder: Path | None) -> Classified | None:
    """Give the same with its files in a folder, or, for the record, by their names alone."""
    if classified is None:
        return None
    names = (Path(path).name for path in (classified.heard, classified.page))
    heard, page = (os.fspath(folder / name) if folder else name for name in names)
    return dataclasses.replace(classified, heard=heard, page=page)


def finite(value: float | None) -> float | None:
    """Give a number that JSON can hold: minus infinity (silence) and NaN become ``None``."""
    return value if value is not None and math.isfinite(value) else None
