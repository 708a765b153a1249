"""Tacotron 2: an encoder of convolutions and a BLSTM, attention that knows where it has been, and a stop token.

J. Shen et al., "Natural TTS Synthesis by Conditioning WaveNet on Mel Spectrogram Predictions" (arXiv 1712.05884),
section 2.2; the attention is that of J. Chorowski et al., "Attention-Based Models for Speech Recognition" (arXiv
1506.07503), section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import length_mask, run_recurrent
from auriscope.nn.packed import PackedLinear, packable
from auriscope.synthesis.layers import ConvStack, Prenet, postnet
from auriscope.synthesis.synthesizer import (
    Spoken,
    Synthesizer,
    SynthesizerConfig,
    VoiceInput,
    a_step_later,
    frames_before,
    whole_steps,
)

_ASKED = 4
"""Of so many steps the attention is asked in one, where the decoder is told where to look."""


@dataclass(frozen=True)
class Tacotron2Config(SynthesizerConfig):
    """The configuration of Tacotron 2; the defaults are the paper's (section 2.2), the mels those of SpeechBrain.

    Args:
        encoder_size: channels of the embedding, of the encoder's convolutions and of its BLSTM.
        num_encoder_convolutions: how many there are.
        encoder_kernel_size: of each.
        attention_rnn_size: units of the LSTM that decides where to look.
        decoder_rnn_size: units of the LSTM that writes.
        attention_size: channels in which tokens and states are compared.
        location_channels: filters over where the attention was before.
        location_kernel_size: of each.
        prenet_size: units of both layers through which the decoder reads a frame.
        postnet_size: channels of the convolutions that refine all frames.
        num_postnet_convolutions: how many there are.
        postnet_kernel_size: of each.
        dropout: of the convolutions.
        prenet_dropout: of the prenet.
        rnn_dropout: of what the two LSTMs give, in the place of the paper's zoneout.
        speaking_dropout: whether the prenet drops units when the model speaks, too.
        speaking_temperature: what the attention's energies are divided by when the model speaks. One that was told
            where to look while it learnt is too sure of itself, and waits at a letter; with 3 or so it goes on.
    """

    encoder_size: int = 512
    num_encoder_convolutions: int = 3
    encoder_kernel_size: int = 5
    attention_rnn_size: int = 1024
    decoder_rnn_size: int = 1024
    attention_size: int = 128
    location_channels: int = 32
    location_kernel_size: int = 31
    prenet_size: int = 256
    postnet_size: int = 512
    num_postnet_convolutions: int = 5
    postnet_kernel_size: int = 5
    dropout: float = 0.5
    prenet_dropout: float = 0.5
    rnn_dropout: float = 0.1
    speaking_dropout: bool = True
    speaking_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.speaking_temperature > 0:
            raise ValueError(f"speaking_temperature must be positive, not {self.speaking_temperature}")


class Encoder(nn.Module):
    """Convolutions and a BLSTM: embedded tokens (batch, tokens, size) to states of the same size."""

    def __init__(self, size: int, num_convolutions: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.stack = ConvStack(size, [size] * num_convolutions, kernel_size, "relu", dropout)
        self.lstm = nn.LSTM(size, size // 2, batch_first=True, bidirectional=True)

    def forward(self, embedded: Tensor, token_lengths: Tensor, valid: Tensor) -> Tensor:
        """Encode; zeros behind the end of each text."""
        return run_recurrent(self.lstm, self.stack(embedded, valid), token_lengths)


class LocationAttention(nn.Module):
    """Energies v·tanh(W s + V h + U f) of tokens, f being convolved from where the attention was before.

    Equation 8 of Chorowski et al., over the newest map and the sum of all, as in section 2.2 of the paper.
    """

    def __init__(self, state_size: int, dim: int, size: int, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(state_size, size, bias=False)
        self.key = nn.Linear(dim, size, bias=False)
        self.energy = nn.Linear(size, 1, bias=False)
        self.location = nn.Conv1d(2, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.of_location = nn.Linear(channels, size, bias=False)
        tanh = nn.init.calculate_gain("tanh")
        for layer, gain in ((self.query, tanh), (self.key, tanh), (self.of_location, tanh), (self.energy, 1.0)):
            nn.init.xavier_uniform_(layer.weight, gain)
        nn.init.xavier_uniform_(self.location.weight)

    def filters(self) -> Tensor:
        """The convolution and the linear layer behind it as one matrix, (2 * kernel, size)."""
        return torch.einsum("sc,cik->iks", self.of_location.weight, self.location.weight).flatten(0, 1)

    def forward(self, state: Tensor, memory: Memory, before: Tensor, temperature: float = 1.0) -> Tensor:
        """Where to look, (batch, tokens): ``state`` is (batch, state_size), ``before`` (batch, 2, tokens).

        The energies are divided by ``temperature``: above 1, more tokens share the attention.
        """
        kernel_size = self.location.kernel_size[0]
        # A product: for two channels it is faster than a convolution.
        around = F.pad(before, (kernel_size // 2,) * 2).unfold(2, kernel_size, 1).transpose(1, 2).flatten(2)
        found = torch.tanh(around @ memory.filters + (memory.keys + self.query(state)[:, None]))
        energies: Tensor = self.energy(found)[..., 0]
        if temperature != 1.0:
            energies = energies / temperature
        if memory.hidden is not None:
            energies = energies.masked_fill(memory.hidden, -torch.inf)
        return energies.softmax(-1)


class Memory(NamedTuple):
    """What the decoder looks at: ``states`` (batch, tokens, dim), found by ``keys`` (batch, tokens, size).

    ``hidden`` (batch, tokens) marks what is padding; None: nothing. ``filters`` are those of the attention.
    """

    states: Tensor
    keys: Tensor
    hidden: Tensor | None
    filters: Tensor


@dataclass(frozen=True)
class Tacotron2State:
    """Where the decoder is: its two LSTMs, what it sees, and the newest and the summed map (batch, 2, tokens).

    ``gates`` (batch, tokens, two times gates) is what each token's state adds to the gates of the decoder's and of the
    attention's LSTM when it is looked at, and ``seen`` (batch, gates) the latter of the step before. A text has fewer
    tokens than a state has channels, so that this is less to read in every step than the weights are.
    """

    memory: Memory
    gates: Tensor
    seen: Tensor
    attention_rnn: tuple[Tensor, Tensor]
    decoder_rnn: tuple[Tensor, Tensor]
    before: Tensor


class Tacotron2(Synthesizer, name="synthesis/tacotron2"):
    """Tokens (batch, tokens) to mels (batch, frames, mels), a few frames at a step."""

    Config = Tacotron2Config
    takes_paths = True
    Tiny: ClassVar[dict[str, Any]] = {
        "encoder_size": 16,
        "num_encoder_convolutions": 1,
        "attention_rnn_size": 16,
        "decoder_rnn_size": 16,
        "attention_size": 8,
        "location_channels": 4,
        "location_kernel_size": 7,
        "prenet_size": 8,
        "postnet_size": 16,
        "num_postnet_convolutions": 2,
        "frames_per_step": 2,
        "voice_dim": 6,
        "dropout": 0.0,
        "prenet_dropout": 0.0,
        "rnn_dropout": 0.0,
    }
    Published: ClassVar[dict[str, float]] = {"MOS of the paper's own voice, with WaveNet": 4.53}

    def __init__(self, config: Tacotron2Config) -> None:
        super().__init__(config)
        dim, mels, step = config.encoder_size, config.mel.num_mels, config.frames_per_step
        self.embedding = nn.Embedding(len(config.tokens), dim)
        bound = (6.0 / (len(config.tokens) + dim)) ** 0.5
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        self.encoder = Encoder(dim, config.num_encoder_convolutions, config.encoder_kernel_size, config.dropout)
        self.voice = VoiceInput(config.voice_dim, dim)
        self.prenet = Prenet(mels, [config.prenet_size] * 2, config.prenet_dropout)
        self.attention_rnn = nn.LSTMCell(config.prenet_size + dim, config.attention_rnn_size)
        self.attention = LocationAttention(
            config.attention_rnn_size,
            dim,
            config.attention_size,
            config.location_channels,
            config.location_kernel_size,
        )
        self.decoder_rnn = nn.LSTM(config.attention_rnn_size + dim, config.decoder_rnn_size, batch_first=True)
        self.write = nn.Linear(config.decoder_rnn_size + dim, mels * step)
        self.stop = nn.Linear(config.decoder_rnn_size + dim, 1)
        self._packed = [PackedLinear() for _ in range(4)]
        self.postnet = postnet(
            mels, config.postnet_size, config.num_postnet_convolutions, config.postnet_kernel_size, config.dropout
        )

    def forward(
        self,
        tokens: Tensor,
        token_lengths: Tensor | None,
        mel: Tensor,
        frame_lengths: Tensor | None = None,
        voice: Tensor | None = None,
        paths: Tensor | None = None,
    ) -> Spoken:
        """Say what comes after each of the frames (batch, frames, mels); see the base."""
        config = self.config
        frames, stride = mel.shape[1], config.frames_per_step
        target = whole_steps(self.normalised(mel), stride)
        read = self.prenet(frames_before(target, stride))
        memory = self._encode(tokens, token_lengths, voice)
        if paths is None:
            found, attention = self._looking(read, memory)
        else:
            # The token that the middle of each step is said from.
            middles = torch.arange(stride // 2, stride * read.shape[1], stride).clamp(max=frames - 1)
            found, attention = self._told(read, memory, on_tokens(paths[:, middles], tokens.shape[1], token_lengths))
        # Nothing of the second LSTM is read by the attention, so that it needs no loop.
        written, _ = self.decoder_rnn(found)
        written = F.dropout(written, config.rnn_dropout, self.training)
        written = torch.cat((written, found[..., config.attention_rnn_size :]), -1)
        output = self.write(written).unflatten(-1, (stride, -1)).flatten(1, 2)[:, :frames]
        stop = self.stop(written).repeat_interleave(stride, 1)[:, :frames, 0]
        attention = attention.repeat_interleave(stride, 1)[:, :frames]
        refined = self.refine(output, frame_lengths)
        return Spoken(self.denormalised(output), self.denormalised(refined), stop, attention)

    def _looking(self, read: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Step by step, looking where the attention wants.

        Gives the states with what is seen (batch, steps, attention_rnn_size + dim), and the attention (batch, steps,
        tokens), of frames that were read as (batch, steps, prenet_size).
        """
        config, batch = self.config, len(read)
        # The part of the gates that is known beforehand, for all steps at once.
        cell, size = self.attention_rnn, config.prenet_size
        known = F.linear(read, cell.weight_ih[:, :size], cell.bias_ih + cell.bias_hh).unbind(1)
        recurrent = torch.cat((cell.weight_ih[:, size:], cell.weight_hh), 1).T
        hidden = held = read.new_zeros(batch, config.attention_rnn_size)
        context = read.new_zeros(batch, config.encoder_size)
        before = read.new_zeros(batch, 2, memory.states.shape[1])
        seen: list[Tensor] = []
        looks: list[Tensor] = []
        for gates in known:
            gates = torch.addmm(gates, torch.cat((context, hidden), 1), recurrent)
            hidden, held = _lstm(gates, held)
            hidden = F.dropout(hidden, config.rnn_dropout, self.training)
            weights = self.attention(hidden, memory, before)
            context = (weights[:, None] @ memory.states)[:, 0]
            before = torch.stack((weights, before[:, 1] + weights), 1)
            seen.append(torch.cat((hidden, context), 1))
            looks.append(weights)
        return torch.stack(seen, 1), torch.stack(looks, 1)

    def _told(self, read: Tensor, memory: Memory, told: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`_looking`, looking at what is told, (batch, steps, tokens): all steps at once.

        In training the attention is asked where it would look in every fourth step alone, which is most of the time
        saved; in the others it counts as right.
        """
        config, (batch, steps, num_tokens) = self.config, told.shape
        contexts = told @ memory.states
        cell = self.attention_rnn
        weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
        begin = read.new_zeros(1, batch, config.attention_rnn_size)
        entering = torch.cat((read, a_step_later(contexts)), -1)
        hidden = torch.lstm(entering, (begin, begin), weights, True, 1, 0.0, self.training, False, True)[0]
        hidden = F.dropout(hidden, config.rnn_dropout, self.training)
        before = torch.stack((a_step_later(told), a_step_later(told.cumsum(1))), 2)
        asked = torch.arange(int(torch.randint(_ASKED, ())), steps, _ASKED) if self.training else torch.arange(steps)
        # A step is to the attention what a text of the batch is.
        states, keys, hidden_tokens = (
            None if each is None else each.repeat_interleave(len(asked), 0)
            for each in (memory.states, memory.keys, memory.hidden)
        )
        assert states is not None
        assert keys is not None
        memory = Memory(states, keys, hidden_tokens, memory.filters)
        looks = self.attention(hidden[:, asked].flatten(0, 1), memory, before[:, asked].flatten(0, 1))
        attention = told.index_copy(1, asked.to(told.device), looks.view(batch, len(asked), num_tokens))
        return torch.cat((hidden, contexts), -1), attention

    def begin(self, tokens: Tensor, token_lengths: Tensor | None, voice: Tensor | None) -> Tacotron2State:
        """Encode tokens (batch, tokens), and make the decoder's state before the first frame."""
        config = self.config
        memory = self._encode(tokens, token_lengths, voice)
        of_input = self.decoder_rnn.all_weights[0][0]
        of_context = (
            of_input[:, config.attention_rnn_size :],
            self.attention_rnn.weight_ih[:, config.prenet_size :],
        )
        zeros = memory.states.new_zeros
        sizes = config.attention_rnn_size, config.decoder_rnn_size
        attention_rnn, decoder_rnn = (zeros(len(tokens), size) for size in sizes)
        return Tacotron2State(
            memory,
            F.linear(memory.states, torch.cat(of_context)),
            zeros(len(tokens), 4 * sizes[0]),
            (attention_rnn, attention_rnn),
            (decoder_rnn, decoder_rnn),
            zeros(len(tokens), 2, tokens.shape[1]),
        )

    def step(
        self, frame: Tensor, state: Tacotron2State, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tacotron2State]:
        """Read the newest frame and write those that follow; see the base."""
        read = self.prenet(frame, speaking=self.config.speaking_dropout, generator=generator)
        first, second = self.attention_rnn, self.decoder_rnn
        of_input, of_state, input_bias, state_bias = second.all_weights[0]
        gates = self._product(0, read, first.weight_ih, first.bias_ih) + state.seen
        gates = gates + self._product(1, state.attention_rnn[0], first.weight_hh, first.bias_hh)
        attention_rnn = _lstm(gates, state.attention_rnn[1])
        weights = self.attention(attention_rnn[0], state.memory, state.before, self.config.speaking_temperature)
        looked, seen = (weights[:, None] @ state.gates)[:, 0].split([4 * second.hidden_size, 4 * first.hidden_size], 1)
        gates = self._product(2, attention_rnn[0], of_input, input_bias) + looked
        gates = gates + self._product(3, state.decoder_rnn[0], of_state, state_bias)
        decoder_rnn = _lstm(gates, state.decoder_rnn[1])
        context = (weights[:, None] @ state.memory.states)[:, 0]
        written = torch.cat((decoder_rnn[0], context), 1)
        frames = self.write(written).unflatten(-1, (self.config.frames_per_step, -1))
        before = torch.stack((weights, state.before[:, 1] + weights), 1)
        following = replace(state, seen=seen, attention_rnn=attention_rnn, decoder_rnn=decoder_rnn, before=before)
        return frames, self.stop(written)[:, 0], weights, following

    def refine(self, mel: Tensor, frame_lengths: Tensor | None) -> Tensor:
        """Add what the convolutions over all frames find; section 2.2 of the paper, the post-net."""
        valid = None
        if frame_lengths is not None and bool((frame_lengths < mel.shape[1]).any()):
            valid = length_mask(frame_lengths, mel.shape[1])
        refined: Tensor = mel + self.postnet(mel, valid)
        return refined

    def _encode(self, tokens: Tensor, token_lengths: Tensor | None, voice: Tensor | None) -> Memory:
        hidden, valid = None, None
        if token_lengths is not None and bool((token_lengths < tokens.shape[1]).any()):
            valid = length_mask(token_lengths, tokens.shape[1])
            hidden = ~valid
        states = self.voice(self.encoder(self.embedding(tokens), token_lengths, valid), voice)
        return Memory(states, self.attention.key(states), hidden, self.attention.filters())

    def _product(self, number: int, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Multiply x (batch, n) by the first n columns of a weight; the four are most of what a step takes."""
        if packable(x, weight):
            return self._packed[number](x, weight, bias)
        return F.linear(x, weight[:, : x.shape[1]], bias)


def on_tokens(paths: Tensor, num_tokens: int, token_lengths: Tensor | None) -> Tensor:
    """Attention (batch, steps, num_tokens) that looks at ``paths`` (batch, steps), shared by the two nearest tokens."""
    last = paths.new_full((len(paths),), num_tokens) if token_lengths is None else token_lengths.to(paths)
    places = torch.minimum(paths.clamp_min(0.0), last[:, None] - 1.0)
    tokens = torch.arange(num_tokens, device=paths.device)
    return (1.0 - (tokens - places[..., None]).abs()).clamp_min(0.0)


def _lstm(gates: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """What an LSTM's gates (batch, 4 * size) make of what it held (batch, size): its output, and what it holds."""
    into, keep, new, out = gates.chunk(4, 1)
    held = keep.sigmoid() * held + into.sigmoid() * new.tanh()
    return out.sigmoid() * held.tanh(), held
