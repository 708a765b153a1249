"""Recognition: speech to words, with their times and how sure they are."""

from __future__ import annotations

from auriscope.recognition.blstm import BLSTMCTC, BLSTMCTCConfig
from auriscope.recognition.conformer import ConformerCTC, ConformerCTCConfig
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig

__all__ = [
    "BLSTMCTC",
    "BLSTMCTCConfig",
    "ConformerCTC",
    "ConformerCTCConfig",
    "Encoded",
    "Recognizer",
    "RecognizerConfig",
]
