"""Prepared corpora of labelled images, as ``auriscope prepare`` lists them.

A folder holds ``corpus.json``, which says of what kind it is (``"kind": "labelled images"``), the corpus' name, its
root and the names of its classes, and ``manifest.csv`` with a row per stretch of a file: ``path``, ``split``, ``start``
and ``end``, the numbers of its first image and the one after its last, and either ``label``, the class of all of them,
or ``labels_path``, a file with the class of each. The files are the idx files of MNIST, as they are or packed by gzip,
and NumPy's arrays of Quick, Draw!; they stay where they are.
"""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auriscope.data.manifest import SPLITS, Entry
from auriscope.data.prepared import read_folder, write_folder
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

IMAGES = "labelled images"
_BYTES = 0x08


@dataclass(frozen=True)
class PreparedStretch:
    """Images number ``start`` to ``end`` (not with it) of the file ``path``, relative to the corpus' root.

    ``label`` is the class of all of them, or ``labels_path`` the file that has the class of each.
    """

    path: str
    split: str
    start: int
    end: int
    label: str | None = None
    labels_path: str | None = None


@dataclass(frozen=True)
class PreparedImages:
    """What ``auriscope prepare`` lists of a corpus of labelled images; ``labels`` are the classes in their order."""

    name: str
    condition: str
    root: Path
    labels: tuple[str, ...]
    stretches: tuple[PreparedStretch, ...]

    def num_images(self, split: str) -> int:
        """Return the number of images of a split."""
        return sum(stretch.end - stretch.start for stretch in self.stretches if stretch.split == split)


def read_images(folder: str | Path) -> PreparedImages:
    """Read a prepared folder of labelled images; ``CorpusError`` names the file and what is wrong with it."""
    values, entries = read_folder(Path(folder), IMAGES)
    try:
        values["labels"] = tuple(values["labels"])
        return PreparedImages(**values, stretches=tuple(_stretch(*entry) for entry in entries))
    except (KeyError, TypeError) as error:
        raise CorpusError(f"{folder}: cannot be read ({error}); prepare the corpus again") from error


def write_images(corpus: PreparedImages, folder: str | Path) -> None:
    """Write a prepared folder as :func:`~auriscope.data.prepared.write_prepared` does."""
    values = {
        "kind": IMAGES,
        "name": corpus.name,
        "condition": corpus.condition,
        "root": corpus.root,
        "labels": list(corpus.labels),
    }
    entries = []
    for stretch in corpus.stretches:
        more = {} if stretch.labels_path is None else {"labels_path": stretch.labels_path}
        entries.append(
            Entry(
                stretch.path,
                stretch.split,
                label=stretch.label,
                start_frame=stretch.start,
                end_frame=stretch.end,
                more=more,
            )
        )
    write_folder(Path(folder), values, entries)


def open_images(folder: str | Path, split: str) -> tuple[tuple[str, ...], NDArray[np.uint8], NDArray[np.int64]]:
    """Read a split: the names of the classes, the images (images, height, width), and the class of each (images,).

    Raises ``CorpusError`` as :func:`read_images`, or when a file is missing or not what it was.
    """
    corpus = read_images(folder)
    if split not in SPLITS:
        raise CorpusError(f"split {split!r} must be one of {', '.join(SPLITS)}")
    images, numbers = [], []
    for stretch in corpus.stretches:
        if stretch.split != split:
            continue
        images.append(read_array(corpus.root / stretch.path)[stretch.start : stretch.end])
        if stretch.labels_path is not None:
            numbers.append(read_array(corpus.root / stretch.labels_path)[stretch.start : stretch.end].astype(np.int64))
        elif stretch.label in corpus.labels:
            numbers.append(np.full(len(images[-1]), corpus.labels.index(stretch.label)))
        else:
            raise CorpusError(f"{folder}: {stretch.path} is of no class {stretch.label!r}; prepare the corpus again")
        if not len(images[-1]) == len(numbers[-1]) == stretch.end - stretch.start:
            raise CorpusError(f"{corpus.root / stretch.path}: is not what it was; prepare the corpus again")
    if not images:
        raise CorpusError(f"the prepared corpus {corpus.name!r} has no image in the split {split!r}")
    return corpus.labels, np.concatenate(images), np.concatenate(numbers)


def read_array(path: Path) -> NDArray[np.uint8]:
    """Read the bytes of an idx file, or of a NumPy file of square images in rows; ``CorpusError`` if it is none.

    An idx file, packed by gzip where its name ends in ``.gz``, begins with two zeros, the kind of its values (8:
    bytes), the number of its axes, and their lengths, 32 bits each, the first byte first (Y. LeCun, "The MNIST
    database").
    """
    try:
        if path.suffix == ".npy":
            drawn: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
            side = math.isqrt(drawn.shape[-1])
            if drawn.dtype != np.uint8 or drawn.ndim != 2 or side * side != drawn.shape[-1]:
                raise ValueError("it holds no square images of bytes")
            return drawn.reshape(len(drawn), side, side)
        raw = path.read_bytes()
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
        zeros, kind, num_axes = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{num_axes}I", data, 4)
        if zeros != 0 or kind != _BYTES or num_axes not in (1, 3) or len(data) != 4 + 4 * num_axes + math.prod(shape):
            raise ValueError("it is no idx file of bytes, or not all of it")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * num_axes).reshape(shape)
    except FileNotFoundError:
        raise CorpusError(f"{path}: is missing; copy the corpus again") from None
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise CorpusError(f"{path}: cannot be read as images ({reason(error)}); copy it again") from error


def _stretch(where: str, entry: Entry) -> PreparedStretch:
    if entry.start_frame is None or entry.end_frame is None:
        raise CorpusError(f"{where}: lacks start and end; prepare the corpus again")
    return PreparedStretch(
        entry.path, entry.split, entry.start_frame, entry.end_frame, entry.label, entry.more.get("labels_path")
    )
