"""Prepared corpora of captioned sounds: what ``auriscope prepare`` and ``auriscope curate`` list.

A folder holds ``corpus.json``, which says of what kind it is (``"kind": "captioned sounds"``), the corpus' name and its
root, and ``manifest.csv`` with a row per caption (:mod:`auriscope.data.manifest`): ``path``, relative to the root,
``split``, ``text`` (the caption), ``label`` (the class, where there are such), ``group`` (what a sound shares with
others, such as a recording), ``duration_s``, ``num_frames`` and ``sample_rate``. A sound with several captions has as
many rows. The audio stays where it is, and is read and resampled as it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from auriscope.data.manifest import SPLITS, Entry
from auriscope.data.prepared import read_folder, write_folder
from auriscope.errors import CorpusError

CAPTIONED = "captioned sounds"


@dataclass(frozen=True)
class PreparedCaptions:
    """A sound and what is said of it: ``path`` relative to the root, ``num_frames`` of its own ``sample_rate``.

    ``label`` is its class, "" where the corpus has none.
    """

    path: str
    split: str
    captions: tuple[str, ...]
    group: str
    num_frames: int
    sample_rate: int
    label: str = ""


@dataclass(frozen=True)
class PreparedCaptioned:
    """What is listed of a corpus of captioned sounds."""

    name: str
    condition: str
    root: Path
    sounds: tuple[PreparedCaptions, ...]

    def split(self, name: str) -> tuple[PreparedCaptions, ...]:
        """Give the sounds of a split; ``CorpusError`` if it is none or empty."""
        if name not in SPLITS:
            raise CorpusError(f"split {name!r} must be one of {', '.join(SPLITS)}")
        chosen = tuple(sound for sound in self.sounds if sound.split == name)
        if not chosen:
            raise CorpusError(f"the prepared corpus {self.name!r} has no sound in the split {name!r}")
        return chosen


def read_captioned(folder: str | Path) -> PreparedCaptioned:
    """Read a prepared folder of captioned sounds; ``CorpusError`` names the file and what is wrong with it."""
    values, entries = read_folder(Path(folder), CAPTIONED)
    sounds: dict[tuple[str, str], PreparedCaptions] = {}
    for where, entry in entries:
        sound = _sound(where, entry)
        before = sounds.get((sound.path, sound.split))
        if before is not None:
            sound = replace(before, captions=before.captions + sound.captions)
        sounds[sound.path, sound.split] = sound
    try:
        return PreparedCaptioned(**values, sounds=tuple(sounds.values()))
    except TypeError as error:
        raise CorpusError(f"{folder}: cannot be read ({error}); prepare the corpus again") from error


def write_captioned(corpus: PreparedCaptioned, folder: str | Path, beside: Mapping[str, str] | None = None) -> None:
    """Write a prepared folder as :func:`~auriscope.data.prepared.write_prepared` does.

    ``beside`` are further files of text, by name.
    """
    values = {"kind": CAPTIONED, "name": corpus.name, "condition": corpus.condition, "root": corpus.root}
    write_folder(Path(folder), values, [entry for sound in corpus.sounds for entry in _entries(sound)], beside)


def _entries(sound: PreparedCaptions) -> list[Entry]:
    more = {"group": sound.group, "num_frames": str(sound.num_frames), "sample_rate": str(sound.sample_rate)}
    seconds = round(sound.num_frames / sound.sample_rate, 6)
    label = sound.label or None
    return [Entry(sound.path, sound.split, seconds, label=label, text=caption, more=more) for caption in sound.captions]


def _sound(where: str, entry: Entry) -> PreparedCaptions:
    more = entry.more
    try:
        num_frames, sample_rate, group = int(more["num_frames"]), int(more["sample_rate"]), more["group"]
    except (KeyError, ValueError) as error:
        raise CorpusError(f"{where}: lacks or has a wrong {error}; prepare the corpus again") from error
    if not entry.text:
        raise CorpusError(f"{where}: has no text; prepare the corpus again")
    return PreparedCaptions(entry.path, entry.split, (entry.text,), group, num_frames, sample_rate, entry.label or "")
