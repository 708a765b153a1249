"""Listing the corpora of the field from where they lie as distributed; one module for each family of layouts."""

from __future__ import annotations

from auriscope.data.prepare import (
    ami,
    commonvoice,
    cryceleb,
    espeak,
    librimix,
    librispeech,
    libritts,
    ljspeech,
    musdb,
    vctk,
    voicebank,
    voxceleb,
    wsj0,
)
from auriscope.data.prepare.ami import MeetingLayout, inspect_meetings
from auriscope.data.prepare.layout import Layout, Selection, inspect
from auriscope.data.prepare.speech import SpeechLayout, inspect_speech

LAYOUTS: dict[str, Layout | SpeechLayout | MeetingLayout] = {
    layout.name: layout
    for module in (
        *(wsj0, librimix, voicebank, musdb, librispeech, commonvoice),
        *(ljspeech, libritts, vctk, voxceleb, cryceleb, ami, espeak),
    )
    for layout in module.LAYOUTS
}
"""The corpora that can be prepared, by name."""

__all__ = [
    "LAYOUTS",
    "Layout",
    "MeetingLayout",
    "Selection",
    "SpeechLayout",
    "inspect",
    "inspect_meetings",
    "inspect_speech",
]
