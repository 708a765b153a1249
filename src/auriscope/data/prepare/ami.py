"""AMI: meetings of four, some of three or five, in rooms with microphones on heads and on the table.

J. Carletta et al., "The AMI Meeting Corpus: A Pre-announcement" (MLMI 2005), as distributed: the recordings of a
meeting in ``ES2002a/audio/ES2002a.Mix-Headset.wav`` (all headsets mixed) and ``ES2002a.Array1-01.wav`` (one microphone
on the table), by themselves or below ``amicorpus``; the manual annotations, release 1.6, with the words of each person
in ``words/ES2002a.A.words.xml`` and who the people are in ``corpusResources/meetings.xml``.

The splits are those of the corpus' full partition for speech recognition, with which the literature measures
diarization too. Turns are made of words: those of one person that follow each other without a gap are one turn, and
laughter and coughs are none (the "only words" of F. Landini et al., "Bayesian HMM clustering of x-vector sequences
(VBx) in speaker diarization", arXiv 2012.14952).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from auriscope.data.manifest import SPLITS
from auriscope.data.prepare.layout import Choices, OnProgress, Selection, audio_info
from auriscope.data.prepared_meetings import PreparedMeeting, PreparedMeetings
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason
from auriscope.signal.turns import SpeakerTurn, joined

_RECORDINGS = {"headsets": "Mix-Headset", "array": "Array1-01"}
_VALID = ("ES2011", "IS1008", "TS3004", "IB4001", "IB4002", "IB4003", "IB4004", "IB4010", "IB4011")
_TEST = ("ES2004", "IS1009", "TS3003", "EN2002")
_NAMESPACE = "{http://nite.sourceforge.net/}"


@dataclass(frozen=True)
class FoundMeeting:
    """A meeting by its layout, not yet checked: ``path`` relative to the root."""

    name: str
    split: str
    path: str
    turns: tuple[SpeakerTurn, ...]


@dataclass(frozen=True)
class MeetingLayout(Choices):
    """How a corpus of meetings lies on disk as it is distributed.

    Args:
        name: what ``prepare`` calls it.
        choices: as of every corpus.
        find: from (root, selection) to the meetings.
        official: how many meetings each split has in the whole corpus; splits left out vary.
    """

    find: Callable[[Path, Selection], Iterator[FoundMeeting]]
    official: Mapping[str, int]


def inspect_meetings(
    layout: MeetingLayout, root: Path, selection: Selection, on_progress: OnProgress
) -> PreparedMeetings:
    """Find the meetings of a corpus and check every file's header.

    Raises ``CorpusError``, naming the file and the cure, when a file is missing or damaged, or a split is empty.
    """
    if not root.is_dir():
        raise CorpusError(f"{root}: is not a folder; give --root the folder of {layout.name}")
    root = root.resolve()
    found = list(layout.find(root, selection))
    for split in SPLITS:
        if not any(meeting.split == split for meeting in found):
            raise CorpusError(f"{root}: {layout.name} has no meeting for the split {split}; get the whole corpus")
    checked = []
    for number, meeting in enumerate(found, start=1):
        info = audio_info(root / meeting.path)
        checked.append(
            PreparedMeeting(
                meeting.name, meeting.path, meeting.split, int(info.frames), int(info.samplerate), meeting.turns
            )
        )
        on_progress(number / len(found))
    return PreparedMeetings(layout.name, selection.condition, root, tuple(checked))


def _find(root: Path, selection: Selection) -> Iterator[FoundMeeting]:
    annotations = _annotations(root)
    people = _people(annotations / "corpusResources" / "meetings.xml")
    suffix = _RECORDINGS[selection.condition]
    base = "amicorpus/" if (root / "amicorpus").is_dir() else ""
    meetings = sorted(path.parent.parent.name for path in root.glob(f"{base}*/audio/*.{suffix}.wav"))
    if not meetings:
        raise CorpusError(
            f"{root / f'{base}ES2002a/audio/ES2002a.{suffix}.wav'}: nothing like it is there; give --root the folder "
            "that holds the meetings, or choose other recordings (--condition)"
        )
    for name in meetings:
        turns = tuple(_turns(name, annotations / "words", people))
        yield FoundMeeting(name, _split(name), f"{base}{name}/audio/{name}.{suffix}.wav", turns)


def _split(meeting: str) -> str:
    if meeting.startswith(_TEST):
        return "test"
    return "valid" if meeting.startswith(_VALID) else "train"


def _annotations(root: Path) -> Path:
    for folder in (root, *sorted(root.glob("ami_public_manual*")), root / "annotations"):
        if (folder / "words").is_dir():
            return folder
    raise CorpusError(
        f"{root / 'words'}: is not there; unpack the manual annotations of AMI (ami_public_manual_1.6.2) in {root}"
    )


def _people(place: Path) -> dict[tuple[str, str], str]:
    """Read who has which letter in each meeting: (meeting, letter) to the name of the person in the whole corpus."""
    return {
        (meeting.get("observation", ""), speaker.get("nxt_agent", "")): speaker.get("global_name", "")
        for meeting in _parsed(place).iter("meeting")
        for speaker in meeting.iter("speaker")
    }


def _turns(meeting: str, folder: Path, people: Mapping[tuple[str, str], str]) -> list[SpeakerTurn]:
    files = sorted(folder.glob(f"{meeting}.*.words.xml"))
    if not files:
        raise CorpusError(f"{folder / f'{meeting}.A.words.xml'}: is missing; unpack the annotations again")
    turns = []
    for path in files:
        letter = path.name.split(".")[1]
        person = people.get((meeting, letter), "") or f"{meeting}{letter}"
        for word in _parsed(path).iter("w"):
            start, end = word.get("starttime"), word.get("endtime")
            # Punctuation has no length, and a few words no times.
            if word.get("punc") == "true" or not start or not end:
                continue
            try:
                turns.append(SpeakerTurn(person, float(start), float(end)))
            except ValueError:
                name = word.get(f"{_NAMESPACE}id", "a word")
                raise CorpusError(f"{path}: the times of {name} are no numbers; unpack it again") from None
    return joined(turns)


def _parsed(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise CorpusError(f"{path}: cannot be read as XML ({reason(error)}); unpack the annotations again") from None


LAYOUTS = (
    MeetingLayout("ami", {"condition": tuple(_RECORDINGS)}, _find, official={"train": 136, "valid": 18, "test": 16}),
)
