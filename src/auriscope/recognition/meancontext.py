"""An encoder-decoder without attention: the mean of all frames is all that the decoder ever hears.

K. Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (arXiv 1406.1078), section 2.2: one vector
stands for the whole input, and the decoder reads it at every step. Here it is the mean of the listener's frames. What
was said first and what was said last is the same to it: the system that shows what attention is for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from auriscope.recognition.las import Listener
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.recognition.recurrent import BeamState, run_step
from auriscope.signal.features import LogMel


@dataclass(frozen=True)
class MeanContextConfig(RecognizerConfig):
    """The configuration of the encoder-decoder with a mean context.

    The paper translates phrases; the defaults here are those of Listen, Attend and Spell, so that the two differ by
    the attention alone: ``listener_size`` units of each direction in the listener's layers, of which
    ``num_pyramid_layers`` halve the time, and ``num_decoder_layers`` of ``decoder_size`` units.
    """

    num_mels: int = 40
    listener_size: int = 256
    num_pyramid_layers: int = 3
    decoder_size: int = 512
    num_decoder_layers: int = 2
    embedding_size: int = 256
    dropout: float = 0.0


@dataclass(frozen=True)
class MeanState:
    """What the decoder knows of a beam: its LSTM, and each utterance's ``mean`` (batch, 1, dim) once."""

    rnn: BeamState
    mean: Tensor


class MeanContext(Recognizer, name="recognition/mean-context"):
    """Waveforms (batch, time) and tokens (batch, tokens) to logits of what follows each token."""

    Config = MeanContextConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_mels": 20,
        "listener_size": 8,
        "num_pyramid_layers": 2,
        "decoder_size": 16,
        "num_decoder_layers": 1,
        "embedding_size": 8,
    }
    has_decoder = True

    def __init__(self, config: MeanContextConfig) -> None:
        super().__init__(config)
        dim, size = 2 * config.listener_size, config.decoder_size
        self.front = LogMel(config.sample_rate, config.num_mels)
        self.listener = Listener(config.num_mels, config.listener_size, config.num_pyramid_layers, config.dropout)
        self.embedding = nn.Embedding(len(config.tokens), config.embedding_size)
        between = config.dropout if config.num_decoder_layers > 1 else 0.0
        self.rnn = nn.LSTM(
            config.embedding_size + dim, size, config.num_decoder_layers, batch_first=True, dropout=between
        )
        self.spell = nn.Sequential(
            nn.Linear(size + dim, size), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(size, len(config.tokens))
        )

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Listen to features (batch, frames, num_mels); every layer of the pyramid leaves half the frames."""
        states, frame_lengths = self.listener(features, frame_lengths)
        hop = self.front.hop_length * 2**self.config.num_pyramid_layers
        return Encoded(states, frame_lengths, hop / self.config.sample_rate)

    def decoder_logits(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens)."""
        mean = self._mean(encoded).expand(-1, tokens.shape[1], -1)
        output, _ = self.rnn(torch.cat((self.embedding(tokens), mean), -1))
        logits: Tensor = self.spell(torch.cat((output, mean), -1))
        return logits

    def start(self, encoded: Encoded, beam_size: int) -> MeanState:
        """Zeros for every prefix, and each utterance's mean."""
        return MeanState(BeamState.zeros(self.rnn, len(encoded.states), beam_size), self._mean(encoded))

    def step(self, tokens: Tensor, state: MeanState) -> tuple[Tensor, MeanState, None]:
        """Read a token of each prefix, (batch, beam); there is no attention."""
        mean = state.mean.expand(-1, tokens.shape[1], -1)
        output, rnn = run_step(self.rnn, torch.cat((self.embedding(tokens), mean), -1), state.rnn)
        logits = self.spell(torch.cat((output, mean), -1))
        return torch.log_softmax(logits.float(), -1), replace(state, rnn=rnn), None

    def select(self, state: MeanState, parents: Tensor) -> MeanState:
        """Reorder the prefixes."""
        return replace(state, rnn=state.rnn.select(parents))

    def keep(self, state: MeanState, utterances: Tensor) -> MeanState:
        """Keep these utterances alone."""
        return MeanState(state.rnn.keep(utterances), state.mean[utterances])

    def forward(self, waveform: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each token, given waveforms (batch, time)."""
        return self.decoder_logits(self.encode(waveform, lengths), tokens)

    @staticmethod
    def _mean(encoded: Encoded) -> Tensor:
        """The mean over the valid frames, (batch, 1, dim); the listener leaves zeros behind them."""
        number = encoded.frame_lengths[:, None, None].to(encoded.states)
        return encoded.states.sum(1, keepdim=True) / number
