"""Synthesis: text to mel frames, and mel frames to speech."""

from __future__ import annotations

from auriscope.synthesis.synthesizer import Generated, Spoken, Synthesizer, SynthesizerConfig

__all__ = ["Generated", "Spoken", "Synthesizer", "SynthesizerConfig"]
