"""Decoding: one search for decoders with attention, CTC, and both, with language models beside them."""

from __future__ import annotations

from auriscope.recognition.decoding.decode import decode, decode_encoded, score_weights
from auriscope.recognition.decoding.hypothesis import Hypothesis
from auriscope.recognition.decoding.options import DecodingOptions
from auriscope.recognition.decoding.scorers import TokenLanguageModel, WordLanguageModel

__all__ = [
    "DecodingOptions",
    "Hypothesis",
    "TokenLanguageModel",
    "WordLanguageModel",
    "decode",
    "decode_encoded",
    "score_weights",
]
