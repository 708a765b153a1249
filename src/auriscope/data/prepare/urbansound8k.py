"""UrbanSound8K: 8,732 sounds of a city of at most four seconds, ten classes, in ten folds.

J. Salamon, C. Jacoby, J. P. Bello, "A dataset and taxonomy for urban sound research" (ACM Multimedia 2014), as
distributed: ``metadata/UrbanSound8K.csv`` and ``audio/fold1`` to ``fold10``. Slices of one recording are in one fold;
whoever mixes the folds gets figures that are too good.
"""

from __future__ import annotations

from pathlib import Path

from auriscope.data.prepare.labelled import FoundSound, LabelledLayout, of_fold, read_table, whole
from auriscope.data.prepare.layout import Selection

_COLUMNS = ("slice_file_name", "fsID", "fold", "classID", "class")
_FOLDS = 10


def _find(root: Path, selection: Selection) -> tuple[list[str], list[FoundSound]]:  # noqa: ARG001
    place = root / "metadata" / "UrbanSound8K.csv"
    rows = read_table(place, _COLUMNS)
    labels = dict(sorted({(whole(row["classID"], place), row["class"]) for row in rows})).values()
    found = []
    for row in rows:
        fold = whole(row["fold"], place)
        path = f"audio/fold{fold}/{row['slice_file_name']}"
        found.append(FoundSound(of_fold(fold, _FOLDS), path, row["class"], row["fsID"], fold))
    return list(labels), found


LAYOUTS = (
    LabelledLayout(
        "urbansound8k", {"condition": ("slices",)}, _find, lambda _: {"train": 7_079, "valid": 816, "test": 837}
    ),
)
