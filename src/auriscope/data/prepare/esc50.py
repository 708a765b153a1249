"""ESC-50: 2,000 environmental sounds of five seconds, 50 classes, in five folds.

K. J. Piczak, "ESC: dataset for environmental sound classification" (ACM Multimedia 2015), as distributed:
``meta/esc50.csv`` and ``audio``. Clips of one upload are in one fold. The condition ``10`` is the subset ESC-10.
"""

from __future__ import annotations

from pathlib import Path

from auriscope.data.prepare.labelled import FoundSound, LabelledLayout, of_fold, read_table, whole
from auriscope.data.prepare.layout import Selection

_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file")
_FOLDS = 5


def _find(root: Path, selection: Selection) -> tuple[list[str], list[FoundSound]]:
    place = root / "meta" / "esc50.csv"
    rows = [row for row in read_table(place, _COLUMNS) if selection.condition == "50" or row["esc10"] == "True"]
    labels = dict(sorted({(whole(row["target"], place), row["category"]) for row in rows})).values()
    found = []
    for row in rows:
        fold = whole(row["fold"], place)
        found.append(
            FoundSound(of_fold(fold, _FOLDS), f"audio/{row['filename']}", row["category"], row["src_file"], fold)
        )
    return list(labels), found


def _official(selection: Selection) -> dict[str, int]:
    fold = 400 if selection.condition == "50" else 80
    return {"train": 3 * fold, "valid": fold, "test": fold}


LAYOUTS = (LabelledLayout("esc50", {"condition": ("50", "10")}, _find, _official),)
