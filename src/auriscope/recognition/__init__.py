"""Recognition: speech to words, with their times and how sure they are."""

from __future__ import annotations

from auriscope.recognition.blstm import BLSTMCTC, BLSTMCTCConfig
from auriscope.recognition.conformer import ConformerCTC, ConformerCTCConfig
from auriscope.recognition.crdnn import CRDNN, CRDNNConfig
from auriscope.recognition.gmmhmm import GMMHMM, GMMHMMConfig
from auriscope.recognition.joint import Joint, JointConfig
from auriscope.recognition.language_model import LanguageModel, LanguageModelConfig
from auriscope.recognition.las import LAS, LASConfig
from auriscope.recognition.meancontext import MeanContext, MeanContextConfig
from auriscope.recognition.ngram import NGram, NGramConfig, WordNGram
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.recognition.rnnlm import RNNLM, RNNLMConfig
from auriscope.recognition.sbtransformer import (
    SpeechBrainTransformer,
    SpeechBrainTransformerConfig,
    SpeechBrainTransformerLM,
    SpeechBrainTransformerLMConfig,
)
from auriscope.recognition.transformer import Transformer, TransformerConfig
from auriscope.recognition.transformerlm import TransformerLM, TransformerLMConfig
from auriscope.recognition.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from auriscope.recognition.whisper import Whisper, WhisperConfig

__all__ = [
    "BLSTMCTC",
    "CRDNN",
    "GMMHMM",
    "LAS",
    "RNNLM",
    "BLSTMCTCConfig",
    "CRDNNConfig",
    "ConformerCTC",
    "ConformerCTCConfig",
    "Encoded",
    "GMMHMMConfig",
    "Joint",
    "JointConfig",
    "LASConfig",
    "LanguageModel",
    "LanguageModelConfig",
    "MeanContext",
    "MeanContextConfig",
    "NGram",
    "NGramConfig",
    "RNNLMConfig",
    "Recognizer",
    "RecognizerConfig",
    "SpeechBrainTransformer",
    "SpeechBrainTransformerConfig",
    "SpeechBrainTransformerLM",
    "SpeechBrainTransformerLMConfig",
    "Transformer",
    "TransformerConfig",
    "TransformerLM",
    "TransformerLMConfig",
    "Wav2Vec2",
    "Wav2Vec2Config",
    "Whisper",
    "WhisperConfig",
    "WordNGram",
]
