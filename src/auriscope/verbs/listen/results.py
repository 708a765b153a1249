"""What listening to one recording gives, as data: the content of ``report.json``."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from auriscope.errors import AuriscopeError

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
    the estimator was asked about sound unlike what it was trained on. ``text`` is ``None``: nothing was transcribed.
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


@dataclass(frozen=True)
class ListenResult:
    """What listening to one recording gave; paths are as the caller gave them.

    ``num_speakers`` is how many talkers were given or counted; ``at_least`` is true where there may be more than that.
    ``settings`` and ``source`` say what the result was made with and from, so that the next run can tell whether it
    still holds.
    """

    input: str
    report: str
    num_speakers: int
    at_least: bool
    tracks: tuple[ListenTrack, ...]
    warnings: tuple[str, ...]
    sample_rate: int
    num_channels: int
    duration_seconds: float
    rms_dbfs: float | None
    peak_dbfs: float | None
    clipped_fraction: float
    model: str
    quality_model: str
    settings: Mapping[str, Any]
    source: Mapping[str, Any]
    auriscope_version: str
    command: str
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Text of ``report.json``; paths of files beside it are relative to it, so that the folder may be moved."""
        tracks = tuple(dataclasses.replace(track, path=Path(track.path).name) for track in self.tracks)
        moved = dataclasses.replace(self, report=Path(self.report).name, tracks=tracks)
        return json.dumps(dataclasses.asdict(moved), indent=2, ensure_ascii=True, allow_nan=False) + "\n"

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
        return dataclasses.replace(result, report=str(folder / result.report), tracks=tracks)


def finite(value: float | None) -> float | None:
    """Give a number that JSON can hold: minus infinity (silence) and NaN become ``None``."""
    return value if value is not None and math.isfinite(value) else None
