"""Sounds of Debian's packages: recordings of games, drum kits and desktops, and notes of sound fonts, by their names.

``recipes/debian_sounds.py`` downloads and unpacks the packages, each into a folder of its own. Which files are heard,
as what, and in which words, stands in ``debian_sounds.csv``: ``package``, ``pattern`` (the end of a path in the
package, with wildcards), ``label`` (a class of the set ``sound-events``), ``caption`` and ``group`` (one thing that was
recorded, several times perhaps). The labels are made from the names of the files, where these leave no doubt. Files
that match and are left out nevertheless, because they are recordings that the sets hold as well, or empty, or too long,
are in ``debian_sounds_left_out.csv``, with the reason.

All of it is to learn from: there is no other split. Of a group at most :data:`MOST_OF_GROUP` sounds are taken, and of a
class at most :data:`MOST_OF_CLASS`, of as many groups as there are.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from importlib import resources
from itertools import zip_longest
from pathlib import Path

from auriscope.data.prepare.captioned import CaptionedLayout, FoundCaptions
from auriscope.data.prepare.labelled import FoundSound, LabelledLayout
from auriscope.data.prepare.layout import Selection
from auriscope.errors import CorpusError

MOST_OF_GROUP = 6
MOST_OF_CLASS = 90
_RELEASE = "bookworm"
_NUM_SOUNDS = 1682


@dataclass(frozen=True)
class Row:
    """A row of the table: which files of a package are of which class, in which words, and of which thing."""

    package: str
    pattern: str
    label: str
    caption: str
    group: str

    @property
    def thing(self) -> str:
        """The group, told from those of other packages."""
        return f"{self.package}:{self.group}"


@cache
def table() -> tuple[Row, ...]:
    """The rows of ``debian_sounds.csv``."""
    return tuple(Row(**row) for row in _read("debian_sounds.csv"))


@cache
def left_out() -> frozenset[str]:
    """The files that match and are left out, by package and path, as they lie in the root."""
    return frozenset(row["path"] for row in _read("debian_sounds_left_out.csv"))


def matching(root: Path) -> dict[str, Row]:
    """Give every file of the packages that a row matches, by its path in the root, with the first row that does.

    ``CorpusError`` when a package is not there.
    """
    found: dict[str, Row] = {}
    for package in dict.fromkeys(row.package for row in table()):
        names = sorted(_files(root / package))
        for row in table():
            if row.package != package:
                continue
            fits = re.compile(translate("*/" + row.pattern)).match
            for name in names:
                if fits("/" + name):
                    found.setdefault(f"{package}/{name}", row)
    return found


def _read(name: str) -> list[dict[str, str]]:
    text = (resources.files("auriscope.data") / "lists" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _files(folder: Path) -> Iterable[str]:
    if not folder.is_dir():
        raise CorpusError(f"{folder}: is not there; get the packages with: python recipes/debian_sounds.py FOLDER")
    for place, _, names in os.walk(folder):
        for name in names:
            yield (Path(place) / name).relative_to(folder).as_posix()


def _chosen(root: Path) -> list[tuple[str, Row]]:
    """The sounds that are taken: the first of every group, then the second, as far as a class has room."""
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    rows = {path: row for path, row in matching(root).items() if path not in left_out()}
    for path, row in rows.items():
        groups[row.label][row.thing].append(path)
    chosen = []
    for of_class in groups.values():
        spread = zip_longest(*(_evenly(paths, MOST_OF_GROUP) for paths in of_class.values()))
        chosen += [path for turn in spread for path in turn if path is not None][:MOST_OF_CLASS]
    return [(path, rows[path]) for path in sorted(chosen)]


def _evenly(paths: list[str], most: int) -> list[str]:
    return paths if len(paths) <= most else [paths[number * len(paths) // most] for number in range(most)]


def _find(root: Path, selection: Selection) -> tuple[list[str], list[FoundSound]]:  # noqa: ARG001
    found = [FoundSound("train", path, row.label, row.thing) for path, row in _chosen(root)]
    return sorted({sound.label for sound in found}), found


def _find_captions(root: Path, selection: Selection) -> list[FoundCaptions]:  # noqa: ARG001
    return [FoundCaptions("train", path, (row.caption,), row.thing, row.label) for path, row in _chosen(root)]


def _official(selection: Selection) -> dict[str, int]:  # noqa: ARG001
    return {"train": _NUM_SOUNDS}


_CHOICES = {"condition": (_RELEASE,)}
LAYOUTS = (
    LabelledLayout("debian-sounds", _CHOICES, _find, _official, splits=("train",)),
    CaptionedLayout("debian-sounds-captions", _CHOICES, _find_captions, _official, splits=("train",)),
)
