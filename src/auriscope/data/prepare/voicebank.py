"""VoiceBank-DEMAND: noisy and clean recordings of the same sentences, for enhancement.

C. Valentini-Botinhao et al., "Investigating RNN-based speech enhancement methods for noise-robust text-to-speech"
(SSW 2016), as distributed: ``{clean,noisy}_trainset_28spk_wav`` and ``{clean,noisy}_testset_wav`` of 48 kHz, files
named ``p226_001.wav`` after the speaker. It has no validation part: two of the 28 speakers, a woman and a man, are
taken for it, those that are usual (SpeechBrain's recipe takes them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from auriscope.data.prepare.layout import Found, Layout, Selection, parallel_folders

VALID_SPEAKERS = ("p226", "p287")


def _speakers(name: str) -> list[str | None]:
    return [name.split("_")[0]]


def _find(root: Path, selection: Selection) -> Iterator[Found]:  # noqa: ARG001
    for split, folder in (("train", "trainset_28spk_wav"), ("test", "testset_wav")):
        for found in parallel_folders(
            root,
            split,
            "",
            mixture=f"noisy_{folder}",
            sources=[f"clean_{folder}"],
            noise=None,
            speakers=_speakers,
        ):
            own = "valid" if split == "train" and found.speakers[0] in VALID_SPEAKERS else split
            yield replace(found, split=own)


LAYOUTS = (
    Layout(
        "voicebank-demand",
        {"sample_rate": (48000, 16000), "condition": ("noisy",)},
        _find,
        sources=lambda _: ("clean",),
        official=lambda _: {"train": 10_802, "valid": 770, "test": 824},
    ),
)
