"""Text and sound in one space."""

from __future__ import annotations

from auriscope.crossmodal.audio import AudioConfig
from auriscope.crossmodal.clap import CLAP, CLAPConfig, CrossModal, CrossModalConfig
from auriscope.crossmodal.laion import LaionCLAP, LaionCLAPConfig
from auriscope.crossmodal.text import TextConfig

__all__ = [
    "CLAP",
    "AudioConfig",
    "CLAPConfig",
    "CrossModal",
    "CrossModalConfig",
    "LaionCLAP",
    "LaionCLAPConfig",
    "TextConfig",
]
