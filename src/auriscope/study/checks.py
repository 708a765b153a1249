"""What a machine can say of a recording before a person listens: findings for reviewers, not verdicts.

Each finding is a JSON object ``ok`` (None: it cannot be said), ``value`` and ``limit``; units are in its docstring.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auriscope.signal.levels import LevelMeter, clipped_fraction
from auriscope.study import voices
from auriscope.study.decode import Decoded
from auriscope.study.fingerprint import SAME_SOUND, most_similar

QUIETEST_SPEECH_DBFS = -50.0
"""Speech whose loud frames stay below this level cannot be used."""
MOST_CLIPPED = 1e-3
"""More clipped samples than this share are heard."""
LARGEST_IMBALANCE_DB = 15.0
"""Tracks whose levels differ by more hold a talker who can hardly be heard, or none."""
FEWEST_WORDS = 0.3
"""A transcript with a smaller share of the sentences' words is of other sentences."""

_SPARE_SECONDS = 0.5
_FRAME_SECONDS = 0.03
_PAUSE_DB = 30.0

Finding = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """The shortest and the longest recording that the campaign takes, in seconds."""

    min_seconds: float
    max_seconds: float


def run_checks(
    decoded: Decoded,
    limits: Limits,
    *,
    duplicate: Finding,
    sentences: Sequence[str] = (),
    transcriber: Callable[[Decoded], str] | None = None,
) -> dict[str, Any]:
    """Check a recording, and give all findings by name; ``ok`` says whether none of them has failed.

    ``duplicate`` is the finding of :func:`find_duplicate`. ``level_balance`` waits for the separated tracks
    (:func:`with_levels`). With a ``transcriber`` the ``sentences`` are compared with what was spoken.
    """
    mono = decoded.mono
    findings: dict[str, Any] = {
        "silence": silence(mono, decoded.sample_rate),
        "clipping": clipping(decoded),
        "duration": duration(mono, decoded.sample_rate, limits),
        "one_voice": one_voice(mono, decoded.sample_rate),
        "level_balance": {"ok": None, "value": None, "limit": LARGEST_IMBALANCE_DB},
        "duplicate": duplicate,
    }
    if transcriber is not None:
        findings["prompts"] = prompts(transcriber(decoded), sentences)
    return _summed_up(findings)


def undecodable(reason: str) -> dict[str, Any]:
    """Give the findings of a file that cannot be decoded."""
    return {"decoding": {"ok": False, "value": reason, "limit": None}, "ok": False}


def with_levels(checks: Mapping[str, Any], levels_dbfs: Sequence[float]) -> dict[str, Any]:
    """Add to findings how much the levels of the separated tracks differ, in decibels."""
    return _summed_up({**checks, "level_balance": level_balance(levels_dbfs)})


def _summed_up(findings: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: finding for name, finding in findings.items() if name != "ok"}
    return {**named, "ok": all(finding["ok"] is not False for finding in named.values())}


def _frame_levels(mono: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.float64]:
    size = max(1, round(_FRAME_SECONDS * sample_rate))
    count = max(1, len(mono) // size)
    power = np.mean(np.square(np.resize(mono, (count, size)), dtype=np.float64), axis=1)
    levels: npt.NDArray[np.float64] = 10 * np.log10(power + 1e-12)
    return levels


def silence(mono: npt.NDArray[np.float32], sample_rate: int) -> Finding:
    """Find out whether anything can be heard: the level that the loudest twentieth reaches, in dBFS."""
    loud_db = float(np.percentile(_frame_levels(mono, sample_rate), 95))
    return {"ok": loud_db >= QUIETEST_SPEECH_DBFS, "value": round(loud_db, 1), "limit": QUIETEST_SPEECH_DBFS}


def clipping(decoded: Decoded) -> Finding:
    """Find clipped samples: their share, in the channel that has most."""
    share = max(clipped_fraction(channel) for channel in decoded.samples.T)
    return {"ok": share <= MOST_CLIPPED, "value": round(share, 6), "limit": MOST_CLIPPED}


def duration(mono: npt.NDArray[np.float32], sample_rate: int, limits: Limits) -> Finding:
    """Measure the length in seconds, and the sound in it, which must last half of the shortest length at least."""
    seconds = len(mono) / sample_rate
    levels = _frame_levels(mono, sample_rate)
    floor = max(QUIETEST_SPEECH_DBFS - 10, float(np.percentile(levels, 95)) - _PAUSE_DB)
    sounding = float(np.mean(levels > floor)) * seconds
    fits = limits.min_seconds <= seconds <= limits.max_seconds + _SPARE_SECONDS
    return {
        "ok": fits and sounding >= limits.min_seconds / 2,
        "value": round(seconds, 3),
        "limit": [limits.min_seconds, limits.max_seconds],
        "sounding_seconds": round(sounding, 2),
    }


def one_voice(mono: npt.NDArray[np.float32], sample_rate: int) -> Finding:
    """Suspect recordings of one person: the probability that two speak (:mod:`auriscope.study.voices`)."""
    measured = voices.measure(mono, sample_rate)
    if measured is None:
        return {"ok": None, "value": None, "limit": voices.LIMIT}
    chance = voices.probability_of_two(measured)
    return {"ok": chance >= voices.LIMIT, "value": round(chance, 3), "limit": voices.LIMIT}


def level_balance(levels_dbfs: Sequence[float]) -> Finding:
    """Compare the levels of separated tracks: the largest difference, in decibels."""
    if len(levels_dbfs) < 2:
        return {"ok": None, "value": None, "limit": LARGEST_IMBALANCE_DB}
    difference = max(levels_dbfs) - min(levels_dbfs)
    value = round(difference, 1) if math.isfinite(difference) else None
    return {"ok": difference <= LARGEST_IMBALANCE_DB, "value": value, "limit": LARGEST_IMBALANCE_DB}


def track_level_dbfs(track: npt.NDArray[np.float32]) -> float:
    """Measure the level of a separated track, (time,), in dBFS."""
    meter = LevelMeter()
    meter.update(track)
    return meter.rms_dbfs


def find_duplicate(fingerprint: str, same_bytes: str | None, earlier: Iterable[tuple[str, str]]) -> Finding:
    """Compare with earlier recordings: the similarity to the closest one, and which one it is (``of``).

    ``same_bytes`` is an earlier submission whose file is the same; ``earlier`` are pairs of a submission and its
    fingerprint.
    """
    if same_bytes is not None:
        return {"ok": False, "value": 1.0, "limit": SAME_SOUND, "of": same_bytes, "kind": "bytes"}
    name, value = most_similar(fingerprint, earlier)
    if name is None or value < SAME_SOUND:
        return {"ok": True, "value": round(value, 3), "limit": SAME_SOUND, "of": None, "kind": None}
    return {"ok": False, "value": round(value, 3), "limit": SAME_SOUND, "of": name, "kind": "sound"}


def prompts(transcript: str, sentences: Sequence[str]) -> Finding:
    """Compare what was spoken with what was to be read: the share of the sentences' words that was found."""
    wanted = Counter(_words(" ".join(sentences)))
    found = wanted & Counter(_words(transcript))
    share = found.total() / max(1, wanted.total())
    return {"ok": share >= FEWEST_WORDS, "value": round(share, 3), "limit": FEWEST_WORDS}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
