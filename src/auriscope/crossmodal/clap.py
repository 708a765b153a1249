"""CLAP: an audio encoder and a text encoder whose embeddings of one thing point the same way.

B. Elizalde, S. Deshmukh, M. Al Ismail, H. Wang, "CLAP: Learning Audio Concepts From Natural Language Supervision"
(arXiv 2206.04769), section 2: two encoders, two residual heads, cosines times a learned temperature.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.crossmodal.audio import AudioConfig, AudioEncoderName, LogMels, make_audio_encoder
from auriscope.crossmodal.bert import BertConfig, BertEncoder
from auriscope.crossmodal.heads import ResidualHead
from auriscope.crossmodal.losses import LARGEST_SCALE
from auriscope.crossmodal.text import TextConfig, TextEncoder
from auriscope.nn.masks import choice
from auriscope.pretrained.model import Model

Fill = Literal["repeat", "repeat_whole", "zeros"]
TextEncoderName = Literal["transformer", "bert"]
_TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class CrossModalConfig:
    """What the configuration of every model of sounds and texts begins with.

    ``window_seconds`` are how much sound it hears at once. Shorter sound is filled up as in its training: by itself
    over and over ("repeat"), as often as it fits whole and then by zeros ("repeat_whole"), or by "zeros" alone.
    ``dim`` is the length of the embedding.
    """

    sample_rate: int = 16_000
    window_seconds: float = 5.0
    fill: Fill = "repeat"
    dim: int = 128

    def __post_init__(self) -> None:
        choice(self.fill, get_args(Fill), "fill")
        if self.sample_rate < 1000 or not self.window_seconds > 0 or self.dim < 1:
            raise ValueError("sample_rate must be at least 1000, window_seconds above 0 and dim at least 1")


class CrossModal(Model):
    """Base of every model of sounds and texts: both to one space, in which the cosine says how well they agree."""

    @property
    def sample_rate(self) -> int:
        """In hertz."""
        return int(self.config.sample_rate)

    @property
    def window_seconds(self) -> float:
        """How much sound it hears at once."""
        return float(self.config.window_seconds)

    @property
    def fill(self) -> Fill:
        """How sound that is shorter than a window is filled up."""
        fill: Fill = self.config.fill
        return fill

    @property
    def dim(self) -> int:
        """The length of the embedding."""
        return int(self.config.dim)

    @property
    @abstractmethod
    def logit_scale(self) -> Tensor:
        """By what cosines are multiplied to be logits: a scalar, 100 at most."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens) and their lengths (batch,) of texts."""

    @abstractmethod
    def encode_audio(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of waveforms (batch, time), of any length; ``lengths`` (batch,) are the valid samples.

        Of a model that cannot be masked, all recordings of a batch are as long as the batch.
        """

    @abstractmethod
    def encode_text(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of tokens (batch, tokens), of any length; ``token_lengths`` (batch,) are valid."""

    def embed_audio(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embeddings (batch, dim) of unit length of waveforms (batch, time), heard at once.

        ``lengths`` (batch,) are the valid samples. Recordings of any length are the business of
        :mod:`auriscope.crossmodal.windows`.
        """
        return F.normalize(self.encode_audio(waveform, lengths).float(), dim=-1)

    def embed_tokens(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:
        """Embeddings (batch, dim) of unit length of what :meth:`tokenize` gives."""
        return F.normalize(self.encode_text(tokens, token_lengths).float(), dim=-1)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (batch, dim) of unit length of texts; ``AuriscopeError`` for one without a word."""
        tokens, token_lengths = self.tokenize(texts)
        return self.embed_tokens(tokens.to(self.device), token_lengths.to(self.device))

    def embed_texts(self, texts: Sequence[str], on_progress: Callable[[float], None] | None = None) -> Tensor:
        """Embeddings (texts, dim) of however many texts, in memory; ``on_progress`` is told the done fraction."""
        parts = []
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            parts.append(self.embed_text(texts[first : first + _TEXTS_AT_ONCE]).cpu())
            if on_progress is not None:
                on_progress(min(1.0, (first + _TEXTS_AT_ONCE) / len(texts)))
        return torch.cat(parts)

    def forward(
        self, waveform: Tensor, tokens: Tensor, lengths: Tensor | None = None, token_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (batch, dim) of unit length, of waveforms (batch, time) and of tokens (batch, tokens)."""
        return self.embed_audio(waveform, lengths), self.embed_tokens(tokens, token_lengths)


@dataclass(frozen=True)
class CLAPConfig(CrossModalConfig):
    """The configuration of a CLAP: two encoders, and heads with ``head_dropout``.

    ``audio`` is of the encoder that ``audio_encoder`` names, ``text`` of the small transformer, ``bert`` of a BERT.
    """

    audio_encoder: AudioEncoderName = "cnn"
    audio: AudioConfig = field(default_factory=AudioConfig)
    text_encoder: TextEncoderName = "transformer"
    text: TextConfig = field(default_factory=TextConfig)
    bert: BertConfig = field(default_factory=BertConfig)
    head_dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.audio_encoder, get_args(AudioEncoderName), "audio_encoder")
        choice(self.text_encoder, get_args(TextEncoderName), "text_encoder")
        if not 0.0 <= self.head_dropout < 1.0:
            raise ValueError("head_dropout must be at least 0 and below 1")


class CLAP(CrossModal, name="crossmodal/clap"):
    """Waveforms (batch, time) and tokens (batch, tokens) to two embeddings (batch, dim) of unit length."""

    Config = CLAPConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "dim": 12,
        "audio": AudioConfig(num_mels=16, stem_channels=4, channels=(8, 12), strides=(2, 2)),
        "text": TextConfig(
            words=("rain", "dog"), vector_dim=6, num_buckets=16, dim=12, num_heads=2, hidden_size=16, dropout=0.0
        ),
    }
    Published: ClassVar[dict[str, float]] = {
        "zero-shot accuracy on ESC-50, of the teacher of arXiv 2305.01864 (%)": 81.9,
        "zero-shot accuracy on UrbanSound8K, likewise (%)": 74.8,
        "zero-shot accuracy on TUT17, likewise (%)": 29.8,
    }

    def __init__(self, config: CLAPConfig) -> None:
        super().__init__(config)
        self.front = LogMels(config.audio, config.sample_rate)
        self.audio = make_audio_encoder(config.audio_encoder, config.audio)
        self.text: TextEncoder | BertEncoder
        if config.text_encoder == "bert":
            self.text = BertEncoder(config.bert)
        else:
            self.text = TextEncoder(config.text)
        self.audio_head = ResidualHead(self.audio.dim, config.dim, config.head_dropout)
        self.text_head = ResidualHead(self.text.dim, config.dim, config.head_dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / 0.07)))

    @property
    def logit_scale(self) -> Tensor:
        """By what cosines are multiplied to be logits: learnt, 1 / 0.07 at the beginning, 100 at most."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens (batch, tokens) and their lengths (batch,) of texts; ``AuriscopeError`` for one without a word."""
        return self.text.tokenize(texts)

    def encode_audio(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of waveforms (batch, time); ``lengths`` (batch,) are the valid samples."""
        # What is as long as the batch needs no masks, which is faster.
        if lengths is not None and bool((lengths == waveform.shape[1]).all()):
            lengths = None
        features, frame_lengths = self.front(waveform, lengths)
        return self.encode_features(features, None if lengths is None else frame_lengths)

    def encode_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of features (batch, frames, num_mels); None: every frame is valid."""
        vector: Tensor = self.audio_head(self.audio(features, frame_lengths))
        return vector

    def encode_text(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:
        """Vectors (batch, dim) of tokens (batch, tokens); ``token_lengths`` (batch,) are valid."""
        vector: Tensor = self.text_head(self.text(tokens, token_lengths))
        return vector
