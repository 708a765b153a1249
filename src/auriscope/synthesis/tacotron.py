"""Tacotron: characters to mels by CBHG, attention, and several frames at a step.

Y. Wang et al., "Tacotron: Towards End-to-End Speech Synthesis" (arXiv 1703.10135), section 3 and table 1. Two things
differ from it. The post-processing net writes mels instead of a linear spectrogram, so that every vocoder here can read
them, which section 3.3 names as a choice. And a stop token tells the end, as in Tacotron 2, where the paper writes
silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask, run_recurrent
from auriscope.synthesis.layers import Prenet
from auriscope.synthesis.synthesizer import (
    Spoken,
    Synthesizer,
    SynthesizerConfig,
    VoiceInput,
    frames_before,
    whole_steps,
)


@dataclass(frozen=True)
class TacotronConfig(SynthesizerConfig):
    """The configuration of Tacotron; the defaults are the paper's (table 1), but for the mels of the base.

    Args:
        frames_per_step: r of the paper.
        embedding_size: channels in which a token is read.
        prenet_sizes: units of the layers behind the embedding, and of those through which the decoder reads a frame.
        encoder_size: channels of the encoder's CBHG, whose states are twice as wide.
        num_encoder_filters: widest of its filters.
        postnet_size: channels of the CBHG that refines all frames.
        num_postnet_filters: widest of its filters.
        projection_size: channels between its two projections.
        num_highways: layers of each CBHG's highway network.
        decoder_size: units of the decoder's GRUs and of the attention.
        num_decoder_layers: GRUs above the one that decides where to look.
        prenet_dropout: probability.
        speaking_dropout: whether the decoder's prenet drops units when the model speaks, too, as Tacotron 2's does.
    """

    frames_per_step: int = 2
    embedding_size: int = 256
    prenet_sizes: tuple[int, ...] = (256, 128)
    encoder_size: int = 128
    num_encoder_filters: int = 16
    postnet_size: int = 128
    num_postnet_filters: int = 8
    projection_size: int = 256
    num_highways: int = 4
    decoder_size: int = 256
    num_decoder_layers: int = 2
    prenet_dropout: float = 0.5
    speaking_dropout: bool = False


class _NormedConv(nn.Module):
    """A convolution that keeps the number of positions, with batch normalisation behind it."""

    def __init__(self, inputs: int, size: int, kernel_size: int) -> None:
        super().__init__()
        self.around = (kernel_size - 1) // 2, kernel_size // 2
        self.conv = nn.Conv1d(inputs, size, kernel_size, bias=False)
        self.norm = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(F.pad(x, self.around)))
        return normed


class _Highway(nn.Module):
    """A layer with a gate that lets its input pass: R. K. Srivastava et al. (arXiv 1505.00387), equation 3."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.change = nn.Linear(size, size)
        self.gate = nn.Linear(size, size)
        # Passing comes first, as its authors advise.
        nn.init.constant_(self.gate.bias, -1.0)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        mixed: Tensor = x + gate * (F.relu(self.change(x)) - x)
        return mixed


class CBHG(nn.Module):
    """A bank of 1-D convolutions, a highway network and a bidirectional GRU; section 3.1 and figure 2 of the paper.

    (batch, positions, inputs) to (batch, positions, 2 * size).

    Args:
        inputs: channels that come in, and that the projections give.
        size: channels of the filters, of the highway network, and of each direction of the GRU.
        num_filters: there are filters of 1, 2, ... so many positions.
        projection_size: channels of the first of the two projections.
        num_highways: layers of the highway network.
    """

    def __init__(self, inputs: int, size: int, num_filters: int, projection_size: int, num_highways: int) -> None:
        super().__init__()
        self.bank = nn.ModuleList(_NormedConv(inputs, size, width) for width in range(1, num_filters + 1))
        self.project = _NormedConv(num_filters * size, projection_size, 3)
        self.back = _NormedConv(projection_size, inputs, 3)
        self.fit = nn.Linear(inputs, size, bias=False) if inputs != size else nn.Identity()
        self.highways = nn.Sequential(*(_Highway(size) for _ in range(num_highways)))
        self.gru = nn.GRU(size, size, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Go through; ``lengths`` (batch,) are valid positions, behind which come zeros."""
        valid = None if lengths is None else length_mask(lengths, x.shape[1])[:, None]
        features = _masked(x.mT, valid)
        banked = torch.cat([F.relu(layer(features)) for layer in self.bank], 1)
        # Two positions at a time, a step of one: nothing is above zero in the padding.
        pooled = F.max_pool1d(F.pad(_masked(banked, valid), (0, 1)), 2, stride=1)
        projected = F.relu(self.project(_masked(pooled, valid)))
        projected = self.back(_masked(projected, valid)).mT + x
        return run_recurrent(self.gru, self.highways(self.fit(projected)), lengths)


def _masked(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else x * valid


@dataclass(frozen=True)
class TacotronState:
    """Where the decoder is: its memory, the GRUs' states (batch, size), and the context (batch, dim).

    ``states`` (batch, tokens, dim) are looked at, found by ``keys`` (batch, tokens, size); ``hidden`` (batch, tokens)
    marks padding, None: there is none.
    """

    states: Tensor
    keys: Tensor
    hidden: Tensor | None
    attention_rnn: Tensor
    decoder_rnns: tuple[Tensor, ...]
    context: Tensor


class Tacotron(Synthesizer, name="synthesis/tacotron"):
    """Tokens (batch, tokens) to mels (batch, frames, mels), a few frames at a step."""

    Config = TacotronConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "embedding_size": 8,
        "prenet_sizes": (16, 8),
        "encoder_size": 8,
        "num_encoder_filters": 3,
        "postnet_size": 8,
        "num_postnet_filters": 2,
        "projection_size": 8,
        "num_highways": 1,
        "decoder_size": 16,
        "num_decoder_layers": 1,
        "voice_dim": 6,
        "prenet_dropout": 0.0,
    }
    Published: ClassVar[dict[str, float]] = {"MOS of the paper's own voice, with Griffin-Lim": 3.82}

    def __init__(self, config: TacotronConfig) -> None:
        super().__init__(config)
        dim, size, mels = 2 * config.encoder_size, config.decoder_size, config.mel.num_mels
        self.embedding = nn.Embedding(len(config.tokens), config.embedding_size)
        self.prenet = Prenet(config.embedding_size, config.prenet_sizes, config.prenet_dropout)
        inputs = config.prenet_sizes[-1]
        self.encoder = CBHG(inputs, config.encoder_size, config.num_encoder_filters, inputs, config.num_highways)
        self.voice = VoiceInput(config.voice_dim, dim)
        self.frame_prenet = Prenet(mels, config.prenet_sizes, config.prenet_dropout)
        self.attention_rnn = nn.GRUCell(inputs + dim, size)
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(dim, size)
        self.energy = nn.Linear(size, 1, bias=False)
        self.enter = nn.Linear(size + dim, size)
        self.decoder_rnns = nn.ModuleList(
            nn.GRU(size, size, batch_first=True) for _ in range(config.num_decoder_layers)
        )
        self.write = nn.Linear(size, mels * config.frames_per_step)
        self.stop = nn.Linear(size, 1)
        self.postnet = CBHG(
            mels, config.postnet_size, config.num_postnet_filters, config.projection_size, config.num_highways
        )
        self.refined = nn.Linear(2 * config.postnet_size, mels)

    def forward(
        self,
        tokens: Tensor,
        token_lengths: Tensor | None,
        mel: Tensor,
        frame_lengths: Tensor | None = None,
        voice: Tensor | None = None,
        paths: Tensor | None = None,  # noqa: ARG002
    ) -> Spoken:
        """Say what comes after each of the frames (batch, frames, mels); see the base."""
        frames, stride = mel.shape[1], self.config.frames_per_step
        target = whole_steps(self.normalised(mel), stride)
        state = self.begin(tokens, token_lengths, voice)
        cell, size = self.attention_rnn, self.config.prenet_sizes[-1]
        # The part of the gates that is known beforehand, for all steps at once.
        read = self.frame_prenet(frames_before(target, stride))
        known = F.linear(read, cell.weight_ih[:, :size], cell.bias_ih).unbind(1)
        of_context, recurrent = cell.weight_ih[:, size:].T, cell.weight_hh.T
        hidden, context = state.attention_rnn, state.context
        seen: list[Tensor] = []
        looks: list[Tensor] = []
        for gates in known:
            gates = torch.addmm(gates, context, of_context)
            hidden = _gru(gates, torch.addmm(cell.bias_hh, hidden, recurrent), hidden)
            weights, context = self._look(hidden, state)
            seen.append(torch.cat((hidden, context), 1))
            looks.append(weights)
        # What is above the attention's GRU is not read by it, so that it needs no loop.
        written = self.enter(torch.stack(seen, 1))
        for layer in self.decoder_rnns:
            written = written + layer(written)[0]
        output = self.write(written).unflatten(-1, (stride, -1)).flatten(1, 2)[:, :frames]
        stop = self.stop(written).repeat_interleave(stride, 1)[:, :frames, 0]
        attention = torch.stack(looks, 1).repeat_interleave(stride, 1)[:, :frames]
        refined = self.refine(output, frame_lengths)
        return Spoken(self.denormalised(output), self.denormalised(refined), stop, attention)

    def begin(self, tokens: Tensor, token_lengths: Tensor | None, voice: Tensor | None) -> TacotronState:
        """Encode tokens (batch, tokens), and make the decoder's state before the first frame."""
        hidden = None
        if token_lengths is not None and bool((token_lengths < tokens.shape[1]).any()):
            hidden = ~length_mask(token_lengths, tokens.shape[1])
        states = self.encoder(self.prenet(self.embedding(tokens)), token_lengths)
        states = self.voice(states, voice)
        zeros = states.new_zeros(len(tokens), self.config.decoder_size)
        context = states.new_zeros(len(tokens), states.shape[2])
        return TacotronState(states, self.key(states), hidden, zeros, (zeros,) * len(self.decoder_rnns), context)

    def step(
        self, frame: Tensor, state: TacotronState, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, TacotronState]:
        """Read the newest frame and write those that follow; see the base."""
        read = self.frame_prenet(frame, speaking=self.config.speaking_dropout, generator=generator)
        hidden = self.attention_rnn(torch.cat((read, state.context), 1), state.attention_rnn)
        weights, context = self._look(hidden, state)
        written = self.enter(torch.cat((hidden, context), 1))
        decoder_rnns = []
        for layer, before in zip(self.decoder_rnns, state.decoder_rnns, strict=True):
            decoder_rnns.append(torch.gru_cell(written, before, *_weights(layer)))
            written = written + decoder_rnns[-1]
        frames = self.write(written).unflatten(-1, (self.config.frames_per_step, -1))
        following = replace(state, attention_rnn=hidden, decoder_rnns=tuple(decoder_rnns), context=context)
        return frames, self.stop(written)[:, 0], weights, following

    def refine(self, mel: Tensor, frame_lengths: Tensor | None) -> Tensor:
        """Write all frames anew with a view of those around; section 3.4 of the paper, the post-processing net."""
        refined: Tensor = self.refined(self.postnet(mel, frame_lengths))
        return refined

    def _look(self, hidden: Tensor, state: TacotronState) -> tuple[Tensor, Tensor]:
        """Where to look, (batch, tokens), and what is there, (batch, dim): D. Bahdanau et al. (arXiv 1409.0473)."""
        energies = self.energy(torch.tanh(self.query(hidden)[:, None] + state.keys))[..., 0]
        if state.hidden is not None:
            energies = energies.masked_fill(state.hidden, -torch.inf)
        weights = energies.softmax(-1)
        return weights, (weights[:, None] @ state.states)[:, 0]


def _weights(layer: nn.Module) -> Sequence[Tensor]:
    assert isinstance(layer, nn.GRU)
    return layer.all_weights[0]


def _gru(of_input: Tensor, of_state: Tensor, state: Tensor) -> Tensor:
    """The new state (batch, size) of a GRU, from the parts (batch, 3 * size) of its gates; torch's order of them."""
    reset, update, new = of_input.chunk(3, 1)
    reset_too, update_too, new_too = of_state.chunk(3, 1)
    new = torch.tanh(new + (reset + reset_too).sigmoid() * new_too)
    return torch.lerp(new, state, (update + update_too).sigmoid())
