"""What the corpora of labelled sounds and images have in common: how a layout is described, and how it is checked."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from auriscope.data.manifest import SPLITS
from auriscope.data.prepare.layout import NUM_READERS, Choices, OnProgress, Selection, audio_info
from auriscope.data.prepared_images import PreparedImages, PreparedStretch, read_array
from auriscope.data.prepared_labelled import PreparedSound, PreparedSounds
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason


@dataclass(frozen=True)
class FoundSound:
    """A sound by its layout, not yet checked: ``path`` relative to the root; ``fold`` where the corpus has folds."""

    split: str
    path: str
    label: str
    group: str
    fold: int | None = None


@dataclass(frozen=True)
class LabelledLayout(Choices):
    """How a corpus of labelled sounds lies on disk as it is distributed.

    Args:
        name: what ``prepare`` calls it.
        choices: as of every corpus.
        find: from (root, selection) to the classes in their order, and the sounds.
        official: by selection, how many sounds each split has in the whole corpus; splits left out vary.
        splits: those that the corpus has.
    """

    find: Callable[[Path, Selection], tuple[Sequence[str], Sequence[FoundSound]]]
    official: Callable[[Selection], Mapping[str, int]] = lambda _: {}
    splits: tuple[str, ...] = SPLITS


@dataclass(frozen=True)
class ImageLayout(Choices):
    """How a corpus of labelled images lies on disk; ``find`` gives the classes and stretches of files."""

    find: Callable[[Path, Selection], tuple[Sequence[str], Sequence[PreparedStretch]]]
    official: Callable[[Selection], Mapping[str, int]] = lambda _: {}


def inspect_labelled(
    layout: LabelledLayout, root: Path, selection: Selection, on_progress: OnProgress
) -> PreparedSounds:
    """Find the sounds of a corpus and check every file's header.

    Raises ``CorpusError``, naming the file and the cure, when a file is missing or damaged, a split is empty, or there
    are fewer than two classes.
    """
    root = _folder(root, layout.name)
    labels, found = layout.find(root, selection)
    _check(labels, {sound.split for sound in found}, layout.splits, root, layout.name, "sound")

    def check(sound: FoundSound) -> PreparedSound:
        info = audio_info(root / sound.path)
        return PreparedSound(
            sound.path, sound.split, sound.label, sound.group, info.frames, info.samplerate, sound.fold
        )

    checked: list[PreparedSound] = []
    with ThreadPoolExecutor(NUM_READERS) as pool:
        for first in range(0, len(found), 512):
            checked += pool.map(check, found[first : first + 512])
            on_progress(len(checked) / len(found))
    return PreparedSounds(layout.name, selection.condition, root, tuple(labels), tuple(checked))


def inspect_images(layout: ImageLayout, root: Path, selection: Selection, on_progress: OnProgress) -> PreparedImages:
    """Find the images of a corpus, and check that the files hold them; errors as of :func:`inspect_labelled`."""
    root = _folder(root, layout.name)
    labels, found = layout.find(root, selection)
    _check(labels, {stretch.split for stretch in found}, SPLITS, root, layout.name, "image")
    for number, stretch in enumerate(found, start=1):
        for name in filter(None, (stretch.path, stretch.labels_path)):
            there = len(read_array(root / name))
            if there < stretch.end:
                raise CorpusError(f"{root / name}: holds {there} of {stretch.end} images; copy it again")
        on_progress(number / len(found))
    return PreparedImages(layout.name, selection.condition, root, tuple(labels), tuple(found))


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file that has these columns; ``CorpusError`` names the file and the cure."""
    if not path.is_file():
        raise CorpusError(f"{path}: is not there; give --root the folder that holds it")
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise CorpusError(f"{path}: has no column {missing[0]!r}; copy the file again")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: cannot be read ({reason(error)}); copy it again") from error


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file that are not empty; ``CorpusError`` names the file and the cure."""
    if not path.is_file():
        raise CorpusError(f"{path}: is not there; give --root the folder that holds it")
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read ({reason(error)}); copy it again") from error


def of_fold(fold: int, num_folds: int) -> str:
    """The split of a fold, where the last one tests and the one before it is the valid split."""
    return {num_folds: "test", num_folds - 1: "valid"}.get(fold, "train")


def whole(text: str, path: Path) -> int:
    """A whole number in a table; ``CorpusError`` names the table."""
    try:
        return int(text)
    except ValueError:
        raise CorpusError(f"{path}: {text!r} is no whole number; copy the file again") from None


def _folder(root: Path, name: str) -> Path:
    if not root.is_dir():
        raise CorpusError(f"{root}: is not a folder; give --root the folder of {name}")
    return root.resolve()


def _check(labels: Sequence[str], there: set[str], splits: Sequence[str], root: Path, name: str, what: str) -> None:
    for split in splits:
        if split not in there:
            raise CorpusError(f"{root}: {name} has no {what} for the split {split}; get the whole corpus")
    if len(labels) < 2:
        raise CorpusError(f"{root}: has one class only, {labels[0]}: there is nothing to tell apart")
