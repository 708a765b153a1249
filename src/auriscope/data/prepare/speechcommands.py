"""Speech Commands, version 2: 105,829 recordings of a second, 35 words said by 2,618 people.

P. Warden, "Speech Commands: a dataset for limited-vocabulary speech recognition" (arXiv 1804.03209), as distributed: a
folder for each word, ``validation_list.txt`` and ``testing_list.txt``, which share no speakers. The condition ``10`` is
the ten words of the commands: yes, no, up, down, left, right, on, off, stop, go.
"""

from __future__ import annotations

from pathlib import Path

from auriscope.data.prepare.labelled import FoundSound, LabelledLayout, read_lines
from auriscope.data.prepare.layout import Selection, wav_names

_TEN = frozenset({"yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"})
_LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}


def _find(root: Path, selection: Selection) -> tuple[list[str], list[FoundSound]]:
    split_of = {line.strip(): split for split, name in _LISTS.items() for line in read_lines(root / name)}
    # The folder of background noises begins with a line, those that a system made with a point.
    words = sorted(place.name for place in root.iterdir() if place.is_dir() and place.name[0] not in "._")
    found = []
    for word in words if selection.condition == "35" else [word for word in words if word in _TEN]:
        for name in wav_names(root / word):
            path = f"{word}/{name}"
            found.append(FoundSound(split_of.get(path, "train"), path, word, name.partition("_nohash_")[0]))
    return sorted({sound.label for sound in found}), found


def _official(selection: Selection) -> dict[str, int]:
    return {"train": 84_843, "valid": 9_981, "test": 11_005} if selection.condition == "35" else {}


LAYOUTS = (LabelledLayout("speech-commands", {"condition": ("35", "10")}, _find, _official),)
