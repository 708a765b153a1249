"""How good a voice is: sentences spoken, heard again by a recogniser, compared with the real voice, on one page."""

from __future__ import annotations

from auriscope.verbs.speech_report.measure import Prompt, speech_report, voice_reader_of
from auriscope.verbs.speech_report.results import SpeechItem, SpeechReport

__all__ = ["Prompt", "SpeechItem", "SpeechReport", "speech_report", "voice_reader_of"]
