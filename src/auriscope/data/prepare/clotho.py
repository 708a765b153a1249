"""Clotho: 5,929 sounds of Freesound, 15 to 30 seconds long, each with five captions.

K. Drossos, S. Lipping, T. Virtanen, "Clotho: an audio captioning dataset" (arXiv 1910.09387), version 2.1 as
distributed: ``clotho_captions_development.csv`` and those of validation and evaluation, beside folders ``development``,
``validation`` and ``evaluation``, or ``clotho_audio_development`` and so on, with or without a folder of the same name
in it.
"""

from __future__ import annotations

from pathlib import Path

from auriscope.data.prepare.captioned import CaptionedLayout, FoundCaptions
from auriscope.data.prepare.labelled import read_table
from auriscope.data.prepare.layout import Selection
from auriscope.errors import CorpusError

_PARTS = {"train": "development", "valid": "validation", "test": "evaluation"}
_CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))


def _find(root: Path, selection: Selection) -> list[FoundCaptions]:  # noqa: ARG001
    found = []
    for split, part in _PARTS.items():
        folder = _folder(root, part)
        for row in read_table(root / f"clotho_captions_{part}.csv", ("file_name", *_CAPTIONS)):
            captions = tuple(row[column].strip() for column in _CAPTIONS if row[column].strip())
            found.append(FoundCaptions(split, f"{folder}/{row['file_name']}", captions, row["file_name"]))
    return found


def _folder(root: Path, part: str) -> str:
    choices = (f"clotho_audio_{part}/{part}", f"clotho_audio_{part}", part)
    for choice in choices:
        if (root / choice).is_dir():
            return choice
    raise CorpusError(f"{root / part}: is not there; unpack clotho_audio_{part}.7z in {root}")


def _official(selection: Selection) -> dict[str, int]:  # noqa: ARG001
    return {"train": 3839, "valid": 1045, "test": 1045}


LAYOUTS = (CaptionedLayout("clotho", {"condition": ("v2.1",)}, _find, _official),)
