"""Text and sound in one space."""

from __future__ import annotations

from auriscope.crossmodal.audio import AudioConfig
from auriscope.crossmodal.clap import CLAP, CLAPConfig, CrossModal, CrossModalConfig
from auriscope.crossmodal.text import TextConfig

__all__ = ["CLAP", "AudioConfig", "CLAPConfig", "CrossModal", "CrossModalConfig", "TextConfig"]
