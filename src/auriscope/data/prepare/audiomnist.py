"""AudioMNIST: 30,000 recordings of ten digits, each said fifty times by sixty people.

S. Becker et al., "AudioMNIST: exploring explainable artificial intelligence for audio analysis on a simple benchmark"
(Journal of the Franklin Institute 2024, arXiv 1807.03418), as distributed: ``data/01`` to ``data/60`` with
``DIGIT_SPEAKER_TAKE.wav``. The five folds of twelve speakers are the paper's, for digits.
"""

from __future__ import annotations

import re
from pathlib import Path

from auriscope.data.prepare.labelled import FoundSound, LabelledLayout, of_fold
from auriscope.data.prepare.layout import Selection, base_folder, wav_names
from auriscope.errors import CorpusError

_FOLDS = (
    frozenset({1, 6, 7, 16, 19, 23, 28, 34, 35, 46, 53, 56}),
    frozenset({2, 8, 9, 17, 24, 29, 36, 37, 39, 48, 54, 57}),
    frozenset({3, 10, 14, 20, 25, 30, 38, 40, 43, 49, 55, 58}),
    frozenset({4, 11, 12, 15, 21, 27, 31, 41, 44, 47, 50, 59}),
    frozenset({5, 13, 18, 22, 26, 32, 33, 42, 45, 51, 52, 60}),
)


def _find(root: Path, selection: Selection) -> tuple[list[str], list[FoundSound]]:  # noqa: ARG001
    base = base_folder(root, "audiomnist", ("data",))
    found = []
    for folder in sorted(place for place in (root / base).iterdir() if place.is_dir()):
        for name in wav_names(folder):
            told = re.fullmatch(r"(\d)_(\d\d)_\d+\.wav", name)
            fold = next((number for number, own in enumerate(_FOLDS, 1) if told and int(told[2]) in own), None)
            if told is None or fold is None:
                raise CorpusError(f"{folder / name}: its name does not tell digit and speaker; keep the corpus' names")
            path = f"{base}/{folder.name}/{name}"
            found.append(FoundSound(of_fold(fold, len(_FOLDS)), path, told[1], told[2], fold))
    return list("0123456789"), found


LAYOUTS = (
    LabelledLayout(
        "audiomnist", {"condition": ("digits",)}, _find, lambda _: {"train": 18_000, "valid": 6_000, "test": 6_000}
    ),
)
