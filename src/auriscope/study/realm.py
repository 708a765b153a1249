"""REAL-M, the published collection of real mixtures of two readers, as a corpus of our layout.

Subakan, Ravanelli, Cornell, Grondin: "REAL-M: Towards speech separation on real mixtures", ICASSP 2022 (arXiv
2110.10812): 1,436 mixtures of 50 speakers. The archive is ``REAL-M-v0.1.0.tar.gz``, as SpeechBrain's recipe
``REAL-M/sisnr-estimation`` links it. Its layout is not described there; it was taken from public programs that read it
(a reader of both kinds of transcriptions with its tests, MixCycle's loader of ``audio_files_converted_8000Hz/*/*.wav``,
and a script that walks the same folder), not from the archive itself::

    REAL-M-v0.1.0/
      audio_files_converted_8000Hz/SESSION/mixture_0_SESSION.wav     8 kHz, one channel
      transcriptions/SESSION.csv

Two kinds of CSV: the three early collections (``early_collection1`` to ``3``) have the columns ``sentence1``,
``sentence2``, ``WorkerId`` and ``filename``, with names in ``.mp3`` that stand for ``.wav``; the other 51 sessions have
``index``, ``sentence1``, ``sentence2`` and ``filename``. The kinds are told apart by their columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from auriscope.errors import CorpusError
from auriscope.signal.outputs import printable, reason
from auriscope.study.corpus import About, Recording, build
from auriscope.study.release import Released, released

NUM_SESSIONS = 54
AUDIO = "audio_files_converted_8000Hz"
TRANSCRIPTIONS = "transcriptions"

_ORIGIN = """
REAL-M, real mixtures of two people who read at once, collected over Mechanical Turk by Subakan, Ravanelli, Cornell and
Grondin ("REAL-M: Towards speech separation on real mixtures", ICASSP 2022), in another layout. There is no ground truth
of the single voices, and nothing is known of the speakers here.
"""


@dataclass
class RealM:
    """What was found of REAL-M: ``missing`` names audio of the transcriptions that is not there, ``unlisted`` audio
    without transcription.
    """

    recordings: list[Recording] = field(default_factory=list)
    num_sessions: int = 0
    missing: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)


def read_realm(root: Path) -> RealM:
    """Read REAL-M from where it was unpacked.

    A session is one collection's. Workers of an early collection count as sessions of their own, numbered in the order
    of the file, and their ids are not kept. A recording that is listed twice counts once. Raises ``CorpusError`` if
    REAL-M is not there or a table cannot be read.
    """
    for name in (AUDIO, TRANSCRIPTIONS):
        if not (root / name).is_dir():
            raise CorpusError(f"{printable(root / name)}: is not there; give the folder REAL-M-v0.1.0 that holds it")
    found = RealM()
    heard: set[Path] = set()
    people: dict[str, str] = {}
    for path in sorted((root / TRANSCRIPTIONS).glob("*.csv")):
        rows = _rows(path)
        found.num_sessions += 1
        workers: dict[str, str] = {}
        for row in rows:
            audio = root / AUDIO / path.stem / f"{PurePosixPath(row['filename'].strip()).stem}.wav"
            if not audio.is_file():
                found.missing.append(f"{path.stem}/{audio.name}")
                continue
            if audio in heard:
                continue
            heard.add(audio)
            session = contributor = _name(path.stem)
            if worker := row.get("WorkerId", "").strip():
                session = workers.setdefault(worker, f"{_name(path.stem)}-{len(workers) + 1}")
                # The same worker in another early collection is the same contributor.
                contributor = people.setdefault(worker, session)
            found.recordings.append(
                Recording(
                    name=_name(audio.stem),
                    session=session,
                    contributor=contributor,
                    sentences=tuple(("", row[name].strip()) for name in ("sentence1", "sentence2")),
                    open=partial(_lying, audio),
                    language="en",
                )
            )
    everything = sorted((root / AUDIO).glob("*/*.wav"))
    found.unlisted = [path.relative_to(root / AUDIO).as_posix() for path in everything if path not in heard]
    if not found.recordings:
        raise CorpusError(f"{printable(root)}: no transcription has its recording; unpack the whole archive")
    return found


def release_realm(
    root: Path,
    version: str,
    out: Path,
    *,
    licence: str | None = None,
    licence_text: str | None = None,
    audio: Literal["flac", "wav"] = "flac",
    valid_percent: int = 10,
    test_percent: int = 10,
) -> tuple[Released, RealM]:
    """Write REAL-M as ``out/real-m-VERSION``, in the layout of our own releases."""
    found = read_realm(root)
    about = About(
        name="real-m",
        title="REAL-M",
        version=version,
        origin=_ORIGIN,
        contact="the authors of REAL-M",
        licence=licence,
        licence_text=licence_text,
        names="Names of sessions and recordings are REAL-M's own; the ids of workers are left out.",
        valid_percent=valid_percent,
        test_percent=test_percent,
        audio=audio,
    )
    built = build(found.recordings, about, out)
    try:
        built.keep()
    except BaseException:
        built.discard()
        raise
    return released(built, version), found


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            missing = [name for name in ("sentence1", "sentence2", "filename") if name not in (reader.fieldnames or ())]
            if missing:
                raise CorpusError(f"{printable(path)}: has no column {missing[0]!r}; it is no transcription of REAL-M")
            return [{name: text for name, text in row.items() if isinstance(text, str)} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{printable(path)}: cannot be read as a table ({reason(error)}); unpack it again") from None


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text) or "unnamed"


@contextmanager
def _lying(path: Path) -> Iterator[Path]:
    yield path
