"""Prepared corpora of labelled sounds, as ``auriscope prepare`` lists them.

A folder holds ``corpus.json``, which says of what kind it is (``"kind": "labelled sounds"``), the corpus' name, its
root and the names of its classes, and ``manifest.csv`` with a row per sound (:mod:`auriscope.data.manifest`): ``path``,
relative to the root, ``split``, ``label``, ``group`` (what a sound shares with others: a recording, a speaker),
``fold`` where the corpus has folds, ``duration_s``, ``num_frames`` and ``sample_rate``. The audio stays where it is,
and is read and resampled as it is needed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from auriscope.data.cache import ClipStore
from auriscope.data.corpora import LabelledClip
from auriscope.data.manifest import SPLITS, Entry
from auriscope.data.prepared import read_folder, write_folder
from auriscope.data.stretches import FileStore
from auriscope.errors import CorpusError

LABELLED = "labelled sounds"


@dataclass(frozen=True)
class PreparedSound:
    """A sound of a prepared corpus: ``path`` relative to its root, ``num_frames`` of its own ``sample_rate``.

    ``fold`` is None in a corpus that has none.
    """

    path: str
    split: str
    label: str
    group: str
    num_frames: int
    sample_rate: int
    fold: int | None = None


@dataclass(frozen=True)
class PreparedSounds:
    """What ``auriscope prepare`` lists of a corpus of labelled sounds; ``labels`` are the classes in their order."""

    name: str
    condition: str
    root: Path
    labels: tuple[str, ...]
    sounds: tuple[PreparedSound, ...]

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds, in their order; none in a corpus without them."""
        return tuple(sorted({sound.fold for sound in self.sounds if sound.fold is not None}))

    def split(self, name: str, fold: int | None = None) -> tuple[PreparedSound, ...]:
        """Give the sounds of a split; ``CorpusError`` if it is none or empty, or the corpus has no such fold.

        With a ``fold``, this fold is the test split, the one before it (of the first, the last) the valid split, and
        the others the train split; sounds of no fold are left out.
        """
        if name not in SPLITS:
            raise CorpusError(f"split {name!r} must be one of {', '.join(SPLITS)}")
        if fold is None:
            chosen = tuple(sound for sound in self.sounds if sound.split == name)
        else:
            folds = self.folds
            if fold not in folds:
                there = ", ".join(map(str, folds)) or "none"
                raise CorpusError(f"the prepared corpus {self.name!r} has no fold {fold}; it has: {there}")
            parts = {"test": {fold}, "valid": {folds[folds.index(fold) - 1]}}
            parts["train"] = set(folds) - parts["test"] - parts["valid"]
            chosen = tuple(sound for sound in self.sounds if sound.fold in parts[name])
        if not chosen:
            raise CorpusError(f"the prepared corpus {self.name!r} has no sound in the split {name!r}")
        return chosen


def read_labelled(folder: str | Path) -> PreparedSounds:
    """Read a prepared folder of labelled sounds; ``CorpusError`` names the file and what is wrong with it."""
    values, entries = read_folder(Path(folder), LABELLED)
    try:
        values["labels"] = tuple(values["labels"])
        return PreparedSounds(**values, sounds=tuple(_sound(*entry) for entry in entries))
    except (KeyError, TypeError) as error:
        raise CorpusError(f"{folder}: cannot be read ({error}); prepare the corpus again") from error


def write_labelled(corpus: PreparedSounds, folder: str | Path) -> None:
    """Write a prepared folder as :func:`~auriscope.data.prepared.write_prepared` does."""
    values = {
        "kind": LABELLED,
        "name": corpus.name,
        "condition": corpus.condition,
        "root": corpus.root,
        "labels": list(corpus.labels),
    }
    write_folder(Path(folder), values, [_entry(sound) for sound in corpus.sounds])


def open_labelled_folder(
    folder: str | Path,
    split: str,
    *,
    sample_rate: int,
    fold: int | None = None,
    classes: Collection[str] | None = None,
) -> tuple[tuple[str, ...], list[LabelledClip], list[ClipStore]]:
    """Open a split: the classes, the sounds, and stores that hold them in the same order, one for each rate.

    With ``classes``, sounds of others are left out. Errors as of :meth:`PreparedSounds.split` and
    :func:`read_labelled`, and if no sound is left.
    """
    corpus = read_labelled(folder)
    chosen = sorted(corpus.split(split, fold), key=lambda sound: sound.sample_rate)
    if classes is not None:
        chosen = [sound for sound in chosen if sound.label in classes]
        if not chosen:
            raise CorpusError(
                f"{folder}: no sound of the split {split} is of one of the classes {', '.join(classes)}; it has: "
                f"{', '.join(corpus.labels)}"
            )
    clips = [
        LabelledClip(
            *(corpus.name, sound.path, corpus.root / sound.path, split, sound.num_frames / sound.sample_rate),
            label=sound.label,
            group=f"{corpus.name}:{sound.group}",
        )
        for sound in chosen
    ]
    stores: list[ClipStore] = []
    for rate in sorted({sound.sample_rate for sound in chosen}):
        own = [sound for sound in chosen if sound.sample_rate == rate]
        paths = [corpus.root / sound.path for sound in own]
        stores.append(FileStore(paths, [sound.num_frames for sound in own], rate, sample_rate))
    return corpus.labels, clips, stores


def _entry(sound: PreparedSound) -> Entry:
    more = {"group": sound.group, "num_frames": str(sound.num_frames), "sample_rate": str(sound.sample_rate)}
    if sound.fold is not None:
        more["fold"] = str(sound.fold)
    seconds = round(sound.num_frames / sound.sample_rate, 6)
    return Entry(sound.path, sound.split, seconds, label=sound.label, more=more)


def _sound(where: str, entry: Entry) -> PreparedSound:
    more = entry.more
    try:
        fold = int(more["fold"]) if "fold" in more else None
        num_frames, sample_rate, group = int(more["num_frames"]), int(more["sample_rate"]), more["group"]
    except (KeyError, ValueError) as error:
        raise CorpusError(f"{where}: lacks or has a wrong {error}; prepare the corpus again") from error
    return PreparedSound(entry.path, entry.split, entry.label or "", group, num_frames, sample_rate, fold)
