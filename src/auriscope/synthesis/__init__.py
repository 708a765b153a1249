"""Synthesis: text to mel frames, and mel frames to speech."""

from __future__ import annotations

from auriscope.synthesis.attention import AttentionReport, attention_report
from auriscope.synthesis.griffinlim import GriffinLim, GriffinLimConfig
from auriscope.synthesis.hifigan import HiFiGAN, HiFiGANConfig
from auriscope.synthesis.synthesizer import Generated, Spoken, Synthesizer, SynthesizerConfig
from auriscope.synthesis.tacotron import Tacotron, TacotronConfig
from auriscope.synthesis.tacotron2 import Tacotron2, Tacotron2Config
from auriscope.synthesis.transformertts import TransformerTTS, TransformerTTSConfig
from auriscope.synthesis.vocoder import Vocoder, VocoderConfig

__all__ = [
    "AttentionReport",
    "Generated",
    "GriffinLim",
    "GriffinLimConfig",
    "HiFiGAN",
    "HiFiGANConfig",
    "Spoken",
    "Synthesizer",
    "SynthesizerConfig",
    "Tacotron",
    "Tacotron2",
    "Tacotron2Config",
    "TacotronConfig",
    "TransformerTTS",
    "TransformerTTSConfig",
    "Vocoder",
    "VocoderConfig",
    "attention_report",
]
