"""Listing the corpora of the field from where they lie as distributed; one module for each family of layouts."""

from __future__ import annotations

from auriscope.data.prepare import (
    ami,
    audiocaps,
    audiomnist,
    classfolders,
    clotho,
    commonvoice,
    cryceleb,
    debian_sounds,
    esc50,
    espeak,
    librimix,
    librispeech,
    libritts,
    ljspeech,
    mnist,
    musdb,
    quickdraw,
    speechcommands,
    tut17,
    urbansound8k,
    vctk,
    voicebank,
    voxceleb,
    wsj0,
)
from auriscope.data.prepare.ami import MeetingLayout, inspect_meetings
from auriscope.data.prepare.captioned import CaptionedLayout, inspect_captioned
from auriscope.data.prepare.labelled import ImageLayout, LabelledLayout, inspect_images, inspect_labelled
from auriscope.data.prepare.layout import Layout, Selection, inspect
from auriscope.data.prepare.speech import SpeechLayout, inspect_speech

AnyLayout = Layout | SpeechLayout | MeetingLayout | LabelledLayout | ImageLayout | CaptionedLayout

LAYOUTS: dict[str, AnyLayout] = {
    layout.name: layout
    for module in (
        *(wsj0, librimix, voicebank, musdb, librispeech, commonvoice),
        *(ljspeech, libritts, vctk, voxceleb, cryceleb, ami, espeak),
        *(esc50, urbansound8k, tut17, speechcommands, audiomnist, mnist, quickdraw, classfolders),
        *(audiocaps, clotho, debian_sounds),
    )
    for layout in module.LAYOUTS
}
"""The corpora that can be prepared, by name."""

__all__ = [
    "LAYOUTS",
    "AnyLayout",
    "CaptionedLayout",
    "ImageLayout",
    "LabelledLayout",
    "Layout",
    "MeetingLayout",
    "Selection",
    "SpeechLayout",
    "inspect",
    "inspect_captioned",
    "inspect_images",
    "inspect_labelled",
    "inspect_meetings",
    "inspect_speech",
]
