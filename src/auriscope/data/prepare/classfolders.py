"""Sounds of your own: a folder for each class, with recordings in it and below.

Files of one folder whose names differ only in a number behind the last ``-`` or ``_`` are taken for one recording, and
are never in two splits. Of each class, fifteen in a hundred recordings, by a hash of their names and one at least, are
for the valid and for the test split.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from auriscope.data.prepare.labelled import FoundSound, LabelledLayout
from auriscope.data.prepare.layout import Selection
from auriscope.errors import CorpusError

_READABLE = frozenset({".wav", ".flac", ".opus", ".ogg", ".mp3"})
_MEASURED_SHARE = 0.15


def _find(root: Path, selection: Selection) -> tuple[list[str], list[FoundSound]]:  # noqa: ARG001
    labels = sorted(place.name for place in root.iterdir() if place.is_dir() and not place.name.startswith("."))
    if not labels:
        raise CorpusError(f"{root}: has no folders; make one for each class")
    found = []
    for label in labels:
        groups: dict[str, list[str]] = {}
        for path in sorted((root / label).rglob("*")):
            if path.suffix.lower() in _READABLE and not path.name.startswith("."):
                name = path.relative_to(root).as_posix()
                groups.setdefault(re.sub(r"[-_]\d+$", "", name.removesuffix(path.suffix)), []).append(name)
        if len(groups) < 3:
            raise CorpusError(f"{root / label}: has {len(groups)} recordings; three are needed, one for each split")
        order = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
        measured = max(1, round(_MEASURED_SHARE * len(order)))
        for place, group in enumerate(order):
            split = "test" if place < measured else "valid" if place < 2 * measured else "train"
            found += [FoundSound(split, name, label, group) for name in groups[group]]
    return labels, found


LAYOUTS = (LabelledLayout("class-folders", {"condition": ("own",)}, _find),)
