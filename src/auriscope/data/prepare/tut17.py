"""TUT Acoustic Scenes 2017: ten seconds each of fifteen places, recorded binaurally at many locations of each.

A. Mesaros et al., "DCASE 2017 challenge setup: tasks, datasets and baseline system" (DCASE 2017), as distributed:
``TUT-acoustic-scenes-2017-development`` with ``audio``, ``meta.txt`` and the four folds of ``evaluation_setup``, and
``TUT-acoustic-scenes-2017-evaluation``, which tests. A fold, of those of the development set, holds other locations
than the others; the first is the valid split.
"""

from __future__ import annotations

from pathlib import Path

from auriscope.data.prepare.labelled import FoundSound, LabelledLayout, read_lines
from auriscope.data.prepare.layout import Selection
from auriscope.errors import CorpusError

_DEVELOPMENT = "TUT-acoustic-scenes-2017-development"
_EVALUATION = "TUT-acoustic-scenes-2017-evaluation"
_FOLDS = 4


def _find(root: Path, selection: Selection) -> tuple[list[str], list[FoundSound]]:  # noqa: ARG001
    folds = {}
    for fold in range(1, _FOLDS + 1):
        for cells in _cells(root / _DEVELOPMENT / "evaluation_setup" / f"fold{fold}_evaluate.txt", 1):
            folds[cells[0]] = fold
    found = []
    meta = root / _DEVELOPMENT / "meta.txt"
    for path, label, location in _cells(meta, 3):
        if path not in folds:
            raise CorpusError(f"{meta}: {path} is in none of the folds of evaluation_setup; copy the corpus again")
        split = "valid" if folds[path] == 1 else "train"
        found.append(FoundSound(split, f"{_DEVELOPMENT}/{path}", label, location, folds[path]))
    for path, label in _cells(root / _EVALUATION / "meta.txt", 2):
        found.append(FoundSound("test", f"{_EVALUATION}/{path}", label, path))
    return sorted({sound.label for sound in found}), found


def _cells(path: Path, number: int) -> list[list[str]]:
    """The first cells of every line, which tabs separate."""
    rows = [[cell.strip() for cell in line.split("\t")] for line in read_lines(path)]
    if any(len(row) < number for row in rows):
        raise CorpusError(f"{path}: has a line of fewer than {number} columns; copy the file again")
    return [row[:number] for row in rows]


LAYOUTS = (LabelledLayout("tut17", {"condition": ("scenes",)}, _find, lambda _: {"test": 1_620}),)
