"""Listing the corpora of the field from where they lie as distributed; one module for each family of layouts."""

from __future__ import annotations

from auriscope.data.prepare import (
    commonvoice,
    cryceleb,
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
from auriscope.data.prepare.layout import Layout, Selection, inspect
from auriscope.data.prepare.speech import SpeechLayout, inspect_speech

LAYOUTS: dict[str, Layout | SpeechLayout] = {
    layout.name: layout
    for module in (
        *(wsj0, librimix, voicebank, musdb, librispeech, commonvoice),
        *(ljspeech, libritts, vctk, voxceleb, cryceleb),
    )
    for layout in module.LAYOUTS
}
"""The corpora that can be prepared, by name."""

__all__ = ["LAYOUTS", "Layout", "Selection", "SpeechLayout", "inspect", "inspect_speech"]
