"""Prepared corpora of transcribed speech, as ``auriscope prepare`` lists them.

A folder holds ``corpus.json``, which says of what kind it is (``"kind": "transcribed speech"``), the corpus' name and
its root, and ``manifest.csv`` with a row per utterance (:mod:`auriscope.data.manifest`): ``path``, relative to the
root, ``split``, ``speaker``, ``sex`` where it is known, ``text``, ``duration_s``, ``num_frames``, ``sample_rate``, and
``period`` where the corpus tells stretches of a speaker's life apart.
The audio stays where it is, and is read and resampled as it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auriscope.data.cache import ClipStore
from auriscope.data.corpora import Utterance
from auriscope.data.manifest import SPLITS, Entry
from auriscope.data.prepared import read_folder, write_folder
from auriscope.data.stretches import FileStore
from auriscope.errors import CorpusError

SPEECH = "transcribed speech"


@dataclass(frozen=True)
class PreparedUtterance:
    """An utterance of a prepared corpus: ``path`` relative to its root, ``num_frames`` of its own ``sample_rate``.

    ``period`` tells stretches of a speaker's life apart, where the corpus does; without texts, ``text`` is empty.
    """

    path: str
    split: str
    num_frames: int
    sample_rate: int
    text: str
    speaker: str
    sex: str | None = None
    period: str | None = None


@dataclass(frozen=True)
class PreparedSpeech:
    """What ``auriscope prepare`` lists of a corpus of transcribed speech; ``condition`` as in its layout."""

    name: str
    condition: str
    root: Path
    utterances: tuple[PreparedUtterance, ...]

    def split(self, name: str) -> tuple[PreparedUtterance, ...]:
        """Give the utterances of a split; ``CorpusError`` if it is none or empty."""
        if name not in SPLITS:
            raise CorpusError(f"split {name!r} must be one of {', '.join(SPLITS)}")
        chosen = tuple(utterance for utterance in self.utterances if utterance.split == name)
        if not chosen:
            raise CorpusError(f"the prepared corpus {self.name!r} has no utterance in the split {name!r}")
        return chosen


def read_speech(folder: str | Path) -> PreparedSpeech:
    """Read a prepared folder of transcribed speech; ``CorpusError`` names the file and what is wrong with it."""
    values, entries = read_folder(Path(folder), SPEECH)
    try:
        corpus = PreparedSpeech(**values, utterances=tuple(_utterance(*entry) for entry in entries))
    except TypeError as error:
        raise CorpusError(f"{folder}: cannot be read ({error}); prepare the corpus again") from error
    return corpus


def write_speech(corpus: PreparedSpeech, folder: str | Path) -> None:
    """Write a prepared folder as :func:`~auriscope.data.prepared.write_prepared` does."""
    values = {"kind": SPEECH, "name": corpus.name, "condition": corpus.condition, "root": corpus.root}
    write_folder(Path(folder), values, [_entry(utterance) for utterance in corpus.utterances])


def open_speech(folder: str | Path, split: str, *, sample_rate: int) -> tuple[list[Utterance], list[ClipStore]]:
    """Open a split: the utterances, and stores that hold them in the same order, one for each rate of the files.

    Errors as of :func:`read_speech`.
    """
    corpus = read_speech(folder)
    chosen = sorted(corpus.split(split), key=lambda utterance: utterance.sample_rate)
    listed = [
        Utterance(
            corpus=corpus.name,
            name=utterance.path,
            path=corpus.root / utterance.path,
            split=split,
            duration_seconds=utterance.num_frames / utterance.sample_rate,
            speaker=f"{corpus.name}:{utterance.speaker}",
            sex=utterance.sex,
            text=utterance.text,
        )
        for utterance in chosen
    ]
    stores: list[ClipStore] = []
    for rate in sorted({utterance.sample_rate for utterance in chosen}):
        own = [utterance for utterance in chosen if utterance.sample_rate == rate]
        paths = [corpus.root / utterance.path for utterance in own]
        stores.append(FileStore(paths, [utterance.num_frames for utterance in own], rate, sample_rate))
    return listed, stores


def _entry(utterance: PreparedUtterance) -> Entry:
    more = {"num_frames": str(utterance.num_frames), "sample_rate": str(utterance.sample_rate)}
    if utterance.period is not None:
        more["period"] = utterance.period
    return Entry(
        utterance.path,
        utterance.split,
        round(utterance.num_frames / utterance.sample_rate, 6),
        speaker=utterance.speaker,
        sex=utterance.sex,
        text=utterance.text or None,
        more=more,
    )


def _utterance(where: str, entry: Entry) -> PreparedUtterance:
    try:
        num_frames, sample_rate = int(entry.more["num_frames"]), int(entry.more["sample_rate"])
    except (KeyError, ValueError) as error:
        raise CorpusError(f"{where}: lacks or has a wrong {error}; prepare the corpus again") from error
    return PreparedUtterance(
        entry.path,
        entry.split,
        num_frames,
        sample_rate,
        entry.text or "",
        entry.speaker or "",
        entry.sex,
        entry.more.get("period"),
    )
