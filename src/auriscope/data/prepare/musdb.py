"""MUSDB18-HQ: songs in stereo with four stems.

Z. Rafii et al., "MUSDB18-HQ" (doi 10.5281/zenodo.3338373), as distributed:
``{train,test}/ARTIST - TITLE/{mixture,bass,drums,other,vocals}.wav`` of 44.1 kHz. The validation songs are the fourteen
that the package ``musdb`` names. MUSDB18 itself holds the same songs, as compressed ``.stem.mp4`` files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from auriscope.data.prepare.layout import Found, Layout, Selection
from auriscope.errors import CorpusError

STEMS = ("bass", "drums", "other", "vocals")
VALID_SONGS = frozenset(
    {
        "ANiMAL - Rockshow",
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    }
)


def _find(root: Path, selection: Selection) -> Iterator[Found]:  # noqa: ARG001
    for part in ("train", "test"):
        folder = root / part
        if not folder.is_dir():
            raise CorpusError(f"{folder}: is not there; give --root the folder that holds train and test of MUSDB18-HQ")
        if any(folder.glob("*.stem.mp4")):
            raise CorpusError(f"{folder}: holds .stem.mp4 files; get MUSDB18-HQ, or convert them with musdbconvert")
        for song in sorted(path.name for path in folder.iterdir() if path.is_dir()):
            split = "valid" if part == "train" and song in VALID_SONGS else part
            stems = tuple(f"{part}/{song}/{stem}.wav" for stem in STEMS)
            yield Found(split, f"{part}/{song}/mixture.wav", stems, (None,) * len(STEMS))


LAYOUTS = (
    Layout(
        "musdb18",
        {"sample_rate": (44100,), "condition": ("clean",)},
        _find,
        sources=lambda _: STEMS,
        num_channels=2,
        order="fixed",
        official=lambda _: {"train": 86, "valid": 14, "test": 50},
    ),
)
