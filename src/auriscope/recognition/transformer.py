"""A transformer that hears and writes: an encoder over subsampled features, a decoder that looks at all of it.

A. Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762); in the size and with the front end of S. Karita et
al., "A Comparative Study on Transformer vs RNN in Speech Applications" (arXiv 1909.06317).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from auriscope.nn.conformer import Subsampling
from auriscope.nn.transformer import Activation, TransformerDecoder, TransformerEncoder, TransformerState
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.signal.features import LogMel


@dataclass(frozen=True)
class TransformerConfig(RecognizerConfig):
    """The configuration of the transformer; the defaults are those of the paper for LibriSpeech.

    ``hidden_size`` is that of the feed-forward layers. The defaults normalise before each part of a layer.
    """

    dim: int = 512
    num_layers: int = 12
    num_decoder_layers: int = 6
    num_heads: int = 8
    hidden_size: int = 2048
    dropout: float = 0.1
    activation: Activation = "relu"
    norm_first: bool = True
    subsampling_channels: int = 512


class TransformerSpeller(Recognizer):
    """Base of recognisers whose ``decoder`` is a :class:`~auriscope.nn.transformer.TransformerDecoder`."""

    has_decoder = True
    decoder: TransformerDecoder

    def decoder_logits(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens)."""
        logits: Tensor = self.decoder(tokens, encoded.states, encoded.frame_lengths)
        return logits

    def start(self, encoded: Encoded, beam_size: int) -> TransformerState:
        """Let every layer of the decoder look up the frames, once per utterance."""
        return self.decoder.start(len(encoded.states), beam_size, encoded.states, encoded.frame_lengths)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState, Tensor | None]:
        """Read a token of each prefix; the attention is the mean of the last layer's heads."""
        logits, state, attention = self.decoder.step(tokens, state)
        return torch.log_softmax(logits.float(), -1), state, attention

    def select(self, state: TransformerState, parents: Tensor) -> TransformerState:
        """Reorder the prefixes; what they have read stays where it is."""
        return state.select(parents)

    def keep(self, state: TransformerState, utterances: Tensor) -> TransformerState:
        """Keep these utterances alone."""
        return state.keep(utterances)

    def forward(self, waveform: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each token, given waveforms (batch, time)."""
        return self.decoder_logits(self.encode(waveform, lengths), tokens)


class Transformer(TransformerSpeller, name="recognition/transformer"):
    """Waveforms (batch, time) and tokens (batch, tokens) to logits of what follows each token."""

    Config = TransformerConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_mels": 20,
        "dim": 16,
        "num_layers": 1,
        "num_decoder_layers": 2,
        "num_heads": 2,
        "hidden_size": 32,
        "dropout": 0.0,
        "subsampling_channels": 4,
    }
    Published: ClassVar[dict[str, float]] = {
        "WER on LibriSpeech test-clean, with CTC and a language model (%)": 2.6,
        "WER on LibriSpeech test-other, with CTC and a language model (%)": 5.7,
    }

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.front = LogMel(config.sample_rate, config.num_mels)
        self.subsampling = Subsampling(config.num_mels, config.dim, config.subsampling_channels)
        self.encoder = TransformerEncoder(
            config.dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            hidden_size=config.hidden_size,
            dropout=config.dropout,
            activation=config.activation,
            norm_first=config.norm_first,
        )
        self.decoder = TransformerDecoder(
            len(config.tokens),
            config.dim,
            num_layers=config.num_decoder_layers,
            num_heads=config.num_heads,
            hidden_size=config.hidden_size,
            dropout=config.dropout,
            activation=config.activation,
            norm_first=config.norm_first,
        )

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode features (batch, frames, num_mels) into a quarter of the frames."""
        frames, frame_lengths = self.subsampling(features, frame_lengths)
        # As embeddings are (section 3.4), lest the positions drown what is heard: unscaled, digits were not learnt.
        states = self.encoder(frames * math.sqrt(self.config.dim), frame_lengths)
        return Encoded(states, frame_lengths, 4 * self.front.hop_length / self.config.sample_rate)
