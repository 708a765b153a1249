"""Listen, Attend and Spell: a pyramid of BLSTMs listens, an LSTM with attention spells.

W. Chan, N. Jaitly, Q. V. Le and O. Vinyals, "Listen, Attend and Spell" (arXiv 1508.01211), section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from auriscope.nn.masks import length_mask, run_recurrent
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.recognition.recurrent import BeamState, run_step
from auriscope.signal.features import LogMel


@dataclass(frozen=True)
class LASConfig(RecognizerConfig):
    """The configuration of Listen, Attend and Spell; the defaults are the paper's (section 4).

    Left open there: ``attention_size``, the hidden and output units of the two networks of the attention, and
    ``embedding_size``. Both are 256 here.

    Args:
        num_mels: of the features.
        listener_size: units of each direction of each of the listener's layers.
        num_pyramid_layers: layers that halve the time, on top of one that does not.
        speller_size: units of each of the speller's layers.
        num_speller_layers: the speller's layers.
        embedding_size: channels in which the speller reads a token.
        attention_size: channels in which states and frames are compared.
        sampling_probability: how often, in training, the speller reads a token of its own instead of the true one;
            section 3.3 of the paper, after S. Bengio et al. (arXiv 1506.03099).
        dropout: probability, between the layers; none in the paper.
    """

    num_mels: int = 40
    listener_size: int = 256
    num_pyramid_layers: int = 3
    speller_size: int = 512
    num_speller_layers: int = 2
    embedding_size: int = 256
    attention_size: int = 256
    sampling_probability: float = 0.1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sampling_probability < 1:
            raise ValueError(f"sampling_probability {self.sampling_probability} must lie in [0, 1)")


class Listener(nn.Module):
    """A BLSTM, and over it ``num_pyramid_layers`` that each read two frames as one; equation 5 of the paper.

    The frames are normalised, which is not in the paper: fresh layers make the differences between frames smaller and
    smaller, and attention learns from them.
    """

    def __init__(self, num_mels: int, size: int, num_pyramid_layers: int, dropout: float) -> None:
        super().__init__()
        inputs = (num_mels, *[4 * size] * num_pyramid_layers)
        self.layers = nn.ModuleList(nn.LSTM(each, size, batch_first=True, bidirectional=True) for each in inputs)
        self.norm = nn.LayerNorm(2 * size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Listen to features (batch, frames, num_mels): (batch, fewer frames, 2 * size) and their number for each."""
        x = run_recurrent(self.layers[0], features, frame_lengths)
        for layer in self.layers[1:]:
            x = nn.functional.pad(x, (0, 0, 0, x.shape[1] % 2))
            x = self.dropout(x.reshape(len(x), x.shape[1] // 2, -1))
            frame_lengths = (frame_lengths + 1) // 2
            x = run_recurrent(layer, x, frame_lengths)
        return self.norm(x) * length_mask(frame_lengths, x.shape[1])[..., None], frame_lengths


@dataclass(frozen=True)
class SpellerState:
    """What the speller knows of a beam: its LSTM, the contexts (batch, beam, dim), and each utterance's frames once.

    ``keys`` (batch, attention channels, frames) are what the frames are found by; ``valid`` (batch, 1, frames).
    """

    rnn: BeamState
    context: Tensor
    frames: Tensor
    keys: Tensor
    valid: Tensor

    def select(self, parents: Tensor) -> SpellerState:
        """Reorder the prefixes: new prefix k is what ``parents`` (batch, beam) names."""
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        return replace(self, rnn=self.rnn.select(parents), context=self.context[rows, parents])

    def keep(self, utterances: Tensor) -> SpellerState:
        """Keep the utterances of these numbers alone, (n,) int64."""
        others = (each[utterances] for each in (self.context, self.frames, self.keys, self.valid))
        return SpellerState(self.rnn.keep(utterances), *others)


def _network(inputs: int, size: int) -> nn.Sequential:
    """One of the two networks of the attention, with weights that keep the size of what goes through.

    Torch's own are smaller, so that all frames would weigh about the same to begin with.
    """
    layers = nn.Linear(inputs, size), nn.Linear(size, size)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(2.0))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


class LAS(Recognizer, name="recognition/las"):
    """Waveforms (batch, time) and tokens (batch, tokens) to logits of what follows each token."""

    Config = LASConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_mels": 20,
        "listener_size": 8,
        "num_pyramid_layers": 2,
        "speller_size": 16,
        "num_speller_layers": 1,
        "embedding_size": 8,
        "attention_size": 8,
    }
    Published: ClassVar[dict[str, float]] = {
        "WER on Google voice search, clean (%)": 14.1,
        "WER on Google voice search, clean, rescored by a language model (%)": 10.3,
    }
    has_decoder = True

    def __init__(self, config: LASConfig) -> None:
        super().__init__(config)
        dim, size, attention = 2 * config.listener_size, config.speller_size, config.attention_size
        self.front = LogMel(config.sample_rate, config.num_mels)
        self.listener = Listener(config.num_mels, config.listener_size, config.num_pyramid_layers, config.dropout)
        self.embedding = nn.Embedding(len(config.tokens), config.embedding_size)
        between = config.dropout if config.num_speller_layers > 1 else 0.0
        self.speller = nn.LSTM(
            config.embedding_size + dim, size, config.num_speller_layers, batch_first=True, dropout=between
        )
        self.of_state = _network(size, attention)
        self.of_frame = _network(dim, attention)
        self.spell = nn.Sequential(
            nn.Linear(size + dim, size), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(size, len(config.tokens))
        )

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Listen to features (batch, frames, num_mels); every layer of the pyramid leaves half the frames."""
        states, frame_lengths = self.listener(features, frame_lengths)
        hop = self.front.hop_length * 2**self.config.num_pyramid_layers
        return Encoded(states, frame_lengths, hop / self.config.sample_rate)

    def decoder_logits(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens).

        In training some of the tokens, but never the first, are drawn from what the speller expected there.
        """
        state = self.start(encoded, 1)
        chance = self.config.sampling_probability if self.training else 0.0
        seen: list[Tensor] = []
        for place in range(tokens.shape[1]):
            read = tokens[:, place : place + 1]
            if chance and seen:
                with torch.no_grad():
                    own = torch.multinomial(self.spell(seen[-1][:, 0]).float().softmax(-1), 1)
                read = torch.where(torch.rand(read.shape, device=read.device) < chance, own, read)
            newest, state, _ = self._spell_on(read, state)
            seen.append(newest)
        # All logits at once, which costs a fraction of one after the other.
        logits: Tensor = self.spell(torch.cat(seen, 1))
        return logits

    def start(self, encoded: Encoded, beam_size: int) -> SpellerState:
        """Zeros for every prefix, and what each utterance's frames are found by."""
        frames = encoded.states
        valid = length_mask(encoded.frame_lengths, frames.shape[1])[:, None]
        context = frames.new_zeros(len(frames), beam_size, frames.shape[2])
        rnn = BeamState.zeros(self.speller, len(frames), beam_size)
        return SpellerState(rnn, context, frames, self.of_frame(frames).mT, valid)

    def step(self, tokens: Tensor, state: SpellerState) -> tuple[Tensor, SpellerState, Tensor]:
        """Read a token of each prefix, (batch, beam)."""
        seen, state, attention = self._spell_on(tokens, state)
        return torch.log_softmax(self.spell(seen).float(), -1), state, attention

    def select(self, state: SpellerState, parents: Tensor) -> SpellerState:
        """Reorder the prefixes."""
        return state.select(parents)

    def keep(self, state: SpellerState, utterances: Tensor) -> SpellerState:
        """Keep these utterances alone."""
        return state.keep(utterances)

    def forward(self, waveform: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each token, given waveforms (batch, time)."""
        return self.decoder_logits(self.encode(waveform, lengths), tokens)

    def _spell_on(self, tokens: Tensor, state: SpellerState) -> tuple[Tensor, SpellerState, Tensor]:
        """Equations 6 to 11: the speller's state s_i and the context c_i side by side, and the attention α_i."""
        x = torch.cat((self.embedding(tokens), state.context), -1)
        output, rnn = run_step(self.speller, x, state.rnn)
        # The scale could be a part of φ. Apart, it keeps steps of training from throwing all attention on one frame.
        energies = self.of_state(output) @ state.keys / math.sqrt(self.config.attention_size)
        attention = energies.masked_fill(~state.valid, -torch.inf).softmax(-1)
        context = attention @ state.frames
        return torch.cat((output, context), -1), replace(state, rnn=rnn, context=context), attention
