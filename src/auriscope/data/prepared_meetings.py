"""Prepared corpora of meetings, as ``auriscope prepare`` lists them: recordings, and who speaks in them when.

A folder holds ``corpus.json``, which says of what kind it is (``"kind": "meetings"``), the corpus' name and its root,
``manifest.csv`` with a row per recording (``path``, relative to the root, ``split``, ``duration_s``, ``num_frames``,
``sample_rate``), and ``turns.rttm``, in which recordings have the names of their meetings (the column ``meeting``).
The audio stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auriscope.data.manifest import SPLITS, Entry
from auriscope.data.prepared import read_folder, write_folder
from auriscope.data.rttm import read_rttm, rttm_lines
from auriscope.errors import CorpusError
from auriscope.signal.turns import SpeakerTurn

MEETINGS = "meetings"
TURNS = "turns.rttm"


@dataclass(frozen=True)
class PreparedMeeting:
    """A meeting: its ``name``, its recording, ``path`` relative to the root, and the ``turns`` of its people."""

    name: str
    path: str
    split: str
    num_frames: int
    sample_rate: int
    turns: tuple[SpeakerTurn, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks, in order of their names."""
        return tuple(sorted({turn.speaker for turn in self.turns}))


@dataclass(frozen=True)
class PreparedMeetings:
    """What ``auriscope prepare`` lists of a corpus of meetings; ``condition`` says which recording of each it is."""

    name: str
    condition: str
    root: Path
    meetings: tuple[PreparedMeeting, ...]

    def split(self, name: str) -> tuple[PreparedMeeting, ...]:
        """Give the meetings of a split; ``CorpusError`` if it is none or empty."""
        if name not in SPLITS:
            raise CorpusError(f"split {name!r} must be one of {', '.join(SPLITS)}")
        chosen = tuple(meeting for meeting in self.meetings if meeting.split == name)
        if not chosen:
            raise CorpusError(f"the prepared corpus {self.name!r} has no meeting in the split {name!r}")
        return chosen


def read_meetings(folder: str | Path) -> PreparedMeetings:
    """Read a prepared folder of meetings; ``CorpusError`` names the file and what is wrong with it."""
    values, entries = read_folder(Path(folder), MEETINGS)
    turns = read_rttm(Path(folder) / TURNS)
    try:
        return PreparedMeetings(**values, meetings=tuple(_meeting(*entry, turns) for entry in entries))
    except TypeError as error:
        raise CorpusError(f"{folder}: cannot be read ({error}); prepare the corpus again") from error


def write_meetings(corpus: PreparedMeetings, folder: str | Path) -> None:
    """Write a prepared folder as :func:`~auriscope.data.prepared.write_prepared` does."""
    values = {"kind": MEETINGS, "name": corpus.name, "condition": corpus.condition, "root": corpus.root}
    lines = [line for meeting in corpus.meetings for line in rttm_lines(meeting.name, meeting.turns)]
    entries = [_entry(meeting) for meeting in corpus.meetings]
    write_folder(Path(folder), values, entries, {TURNS: "".join(f"{line}\n" for line in lines)})


def _entry(meeting: PreparedMeeting) -> Entry:
    more = {
        "meeting": meeting.name,
        "num_frames": str(meeting.num_frames),
        "sample_rate": str(meeting.sample_rate),
    }
    return Entry(meeting.path, meeting.split, round(meeting.num_frames / meeting.sample_rate, 6), more=more)


def _meeting(where: str, entry: Entry, turns: dict[str, list[SpeakerTurn]]) -> PreparedMeeting:
    try:
        name = entry.more["meeting"]
        num_frames, sample_rate = int(entry.more["num_frames"]), int(entry.more["sample_rate"])
    except (KeyError, ValueError) as error:
        raise CorpusError(f"{where}: lacks or has a wrong {error}; prepare the corpus again") from error
    return PreparedMeeting(name, entry.path, entry.split, num_frames, sample_rate, tuple(turns.get(name, ())))
