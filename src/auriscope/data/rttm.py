"""RTTM and UEM: the text files in which diarization is exchanged. Needs no torch.

An RTTM file says a turn a line: ``SPEAKER recording channel start duration <NA> <NA> speaker <NA> <NA>``, times in
seconds. A UEM file says which stretches of a recording are scored: ``recording channel start end``. Fields are
separated by blanks, so that names hold none.

Source: NIST, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan", appendix A.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from auriscope.errors import CorpusError
from auriscope.signal.outputs import StrPath, printable, reason, written_aside
from auriscope.signal.turns import SpeakerTurn


def read_rttm(path: StrPath) -> dict[str, list[SpeakerTurn]]:
    """Read the turns of every recording in an RTTM file, in the file's order.

    Lines of other types than ``SPEAKER`` and comments (``;;``) are passed over.

    Raises:
        CorpusError: the file cannot be read, or a line is not as it should be; it names the line.
    """
    found: dict[str, list[SpeakerTurn]] = {}
    for where, fields in _lines(path):
        if fields[0] != "SPEAKER":
            continue
        if len(fields) < 8:
            raise CorpusError(f"{where}: a SPEAKER line needs at least eight fields, the eighth being the speaker")
        start, duration = _seconds(fields[3], where), _seconds(fields[4], where)
        found.setdefault(fields[1], []).append(SpeakerTurn(fields[7], start, start + duration))
    return found


def read_uem(path: StrPath) -> dict[str, list[tuple[float, float]]]:
    """Read the stretches to score of every recording, (start_seconds, end_seconds); errors as :func:`read_rttm`."""
    found: dict[str, list[tuple[float, float]]] = {}
    for where, fields in _lines(path):
        if len(fields) != 4:
            raise CorpusError(f"{where}: a line needs four fields: recording, channel, start and end")
        start, end = _seconds(fields[2], where), _seconds(fields[3], where)
        if end <= start:
            raise CorpusError(f"{where}: the end {fields[3]} must lie behind the start {fields[2]}")
        found.setdefault(fields[0], []).append((start, end))
    return found


def rttm_lines(recording: str, turns: Iterable[SpeakerTurn]) -> list[str]:
    """Write the turns of one recording as lines of RTTM, in milliseconds; blanks in names become ``_``.

    >>> rttm_lines("a meeting", [SpeakerTurn("Ann", 0.5, 1.75)])
    ['SPEAKER a_meeting 1 0.500 1.250 <NA> <NA> Ann <NA> <NA>']
    """
    name = _word(recording)
    lines = []
    for turn in turns:
        # Start and end are rounded, not the duration: turns that touch go on touching.
        start, end = round(turn.start_seconds, 3), round(turn.end_seconds, 3)
        lines.append(f"SPEAKER {name} 1 {start:.3f} {end - start:.3f} <NA> <NA> {_word(turn.speaker)} <NA> <NA>")
    return lines


def write_rttm(path: StrPath, recordings: Mapping[str, Iterable[SpeakerTurn]]) -> None:
    """Write the turns of recordings so that :func:`read_rttm` reads them back to the millisecond.

    The file appears whole or not at all. Raises ``AudioFileError`` if it cannot be written.
    """
    lines = [line for name, turns in recordings.items() for line in rttm_lines(name, turns)]
    with written_aside(path) as aside:
        aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _lines(path: StrPath) -> Iterator[tuple[str, list[str]]]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{printable(path)}: cannot be read as text ({reason(error)})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if fields and not fields[0].startswith(";"):
            yield f"{printable(path)}, line {number}", fields


def _seconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise CorpusError(f"{where}: {printable(text)!r} is not a time in seconds")
    return value


def _word(name: str) -> str:
    return re.sub(r"\s+", "_", name.strip()) or "_"
