"""SpeechBrain's CRDNN with an attentional decoder: convolutions, LSTMs and linear layers, trained jointly with CTC.

M. Ravanelli et al., "SpeechBrain: A General-Purpose Speech Toolkit" (arXiv 2106.04624), section 4.1; the attention is
that of J. Chorowski et al., "Attention-Based Models for Speech Recognition" (arXiv 1506.07503), section 2.2. The
published weights are ``speechbrain/asr-crdnn-rnnlm-librispeech``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from auriscope.nn.masks import choice, length_mask, run_recurrent
from auriscope.recognition.mirrored import MirroredConv2d, StandardMels
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig

CRDNNActivation = Literal["leaky_relu", "relu"]


@dataclass(frozen=True)
class CRDNNConfig(RecognizerConfig):
    """The configuration; the defaults are those of the published weights, but for their 1000 tokens.

    Args:
        num_mels: of the features.
        conv_channels: of each block of two convolutions.
        conv_kernel: odd.
        mel_pooling: mels of which each block keeps the largest.
        time_pooling: frames of which the last block keeps the largest.
        rnn_size: of the LSTM in each direction.
        rnn_layers: of the LSTM.
        linear_size: of the linear layers behind it.
        num_linear_layers: of them.
        embedding_size: of the tokens.
        decoder_size: of the decoder's GRU.
        decoder_layers: of the GRU.
        attention_size: of the attention.
        location_channels: of the convolution over where was looked at last.
        location_reach: frames that it sees to either side.
        scaling: of the attention's energies; more is sharper.
        dropout: everywhere.
        activation: in the encoder.
    """

    num_mels: int = 40
    conv_channels: tuple[int, ...] = (128, 256)
    conv_kernel: int = 3
    mel_pooling: tuple[int, ...] = (2, 2)
    time_pooling: int = 4
    rnn_size: int = 1024
    rnn_layers: int = 4
    linear_size: int = 512
    num_linear_layers: int = 2
    embedding_size: int = 128
    decoder_size: int = 1024
    decoder_layers: int = 1
    attention_size: int = 1024
    location_channels: int = 10
    location_reach: int = 100
    scaling: float = 1.0
    dropout: float = 0.15
    activation: CRDNNActivation = "leaky_relu"

    def __post_init__(self) -> None:
        choice(self.activation, get_args(CRDNNActivation), "activation")
        if len(self.conv_channels) != len(self.mel_pooling):
            raise ValueError("conv_channels and mel_pooling must be of one length")


class CRDNNBlock(nn.Module):
    """Two convolutions over (batch, frames, mels, channels), and the largest of neighbouring mels."""

    def __init__(self, num_mels: int, in_channels: int, channels: int, pooling: int, config: CRDNNConfig) -> None:
        super().__init__()
        self.conv1 = MirroredConv2d(in_channels, channels, config.conv_kernel)
        self.norm1 = nn.LayerNorm((num_mels, channels))
        self.conv2 = MirroredConv2d(channels, channels, config.conv_kernel)
        self.norm2 = nn.LayerNorm((num_mels, channels))
        self.activation, self.dropout = _activation(config), nn.Dropout2d(config.dropout)
        self.pooling = pooling

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Keep the frames and the largest of every ``pooling`` mels."""
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = self.activation(norm(conv(x, lengths)[0]))
        pooled = _largest(x, 2, self.pooling)
        return self.dropout(pooled.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


class LinearBlock(nn.Module):
    """A linear layer over (batch, frames, channels), normalised over the valid frames of the batch."""

    def __init__(self, in_channels: int, channels: int, config: CRDNNConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, channels)
        self.norm = nn.BatchNorm1d(channels)
        self.activation, self.dropout = _activation(config), nn.Dropout(config.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Zeros behind the ends, where ``valid`` (batch, frames) is not."""
        x = self.linear(x)
        normed = torch.zeros_like(x)
        normed[valid] = self.norm(x[valid])
        y: Tensor = self.dropout(self.activation(normed))
        return y


@dataclass(frozen=True)
class CRDNNState:
    """What the decoder knows of a beam, and each utterance's frames once.

    ``hidden`` (layers, batch, beam, size), ``context`` (batch, beam, attention_size), ``looked`` (batch, beam, frames)
    is the last attention; ``frames`` (batch, frames, dim), ``keys`` (batch, frames, attention_size), ``valid``.
    """

    hidden: Tensor
    context: Tensor
    looked: Tensor
    frames: Tensor
    keys: Tensor
    valid: Tensor

    def select(self, parents: Tensor) -> CRDNNState:
        """Reorder the prefixes: new prefix k continues what ``parents`` (batch, beam) names."""
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        return replace(
            self,
            hidden=self.hidden[:, rows, parents],
            context=self.context[rows, parents],
            looked=self.looked[rows, parents],
        )

    def keep(self, utterances: Tensor) -> CRDNNState:
        """Keep the utterances of these numbers alone, (n,) int64."""
        others = (each[utterances] for each in (self.context, self.looked, self.frames, self.keys, self.valid))
        return CRDNNState(self.hidden[:, utterances], *others)


class CRDNN(Recognizer, name="recognition/crdnn"):
    """Waveforms (batch, time) and tokens (batch, tokens) to logits of what follows each token; and CTC's per frame."""

    Config = CRDNNConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_mels": 20,
        "conv_channels": (4, 4),
        "rnn_size": 8,
        "rnn_layers": 1,
        "linear_size": 16,
        "num_linear_layers": 1,
        "embedding_size": 8,
        "decoder_size": 16,
        "attention_size": 16,
        "location_channels": 2,
        "location_reach": 3,
        "dropout": 0.0,
    }
    Published: ClassVar[dict[str, float]] = {"WER on LibriSpeech test-clean, with its language model (%)": 3.09}
    has_ctc = True
    has_decoder = True

    def __init__(self, config: CRDNNConfig) -> None:
        super().__init__(config)
        self.front = StandardMels(config.sample_rate, config.num_mels)
        num_mels, channels = config.num_mels, 1
        self.blocks = nn.ModuleList()
        for out_channels, pooling in zip(config.conv_channels, config.mel_pooling, strict=True):
            self.blocks.append(CRDNNBlock(num_mels, channels, out_channels, pooling, config))
            num_mels, channels = num_mels // pooling, out_channels
        between = config.dropout if config.rnn_layers > 1 else 0.0
        self.rnn = nn.LSTM(
            num_mels * channels,
            config.rnn_size,
            config.rnn_layers,
            batch_first=True,
            bidirectional=True,
            dropout=between,
        )
        sizes = (2 * config.rnn_size, *[config.linear_size] * config.num_linear_layers)
        self.linears = nn.ModuleList(
            LinearBlock(before, config.linear_size, config) for before in sizes[: config.num_linear_layers]
        )
        dim, attention, size = sizes[-1], config.attention_size, config.decoder_size
        self.head = nn.Linear(dim, len(config.tokens))
        self.embedding = nn.Embedding(len(config.tokens), config.embedding_size)
        self.cells = nn.ModuleList(
            nn.GRUCell(config.embedding_size + attention if layer == 0 else size, size)
            for layer in range(config.decoder_layers)
        )
        self.of_frame, self.of_state = nn.Linear(dim, attention), nn.Linear(size, attention)
        reach = config.location_reach
        self.location = nn.Conv1d(1, config.location_channels, 2 * reach + 1, padding=reach, bias=False)
        self.of_location = nn.Linear(config.location_channels, attention)
        self.energy = nn.Linear(attention, 1, bias=False)
        self.of_context = nn.Linear(dim, attention)
        self.mix = nn.Linear(size + attention, size)
        self.spell = nn.Linear(size, len(config.tokens))
        self.dropout = nn.Dropout(config.dropout)

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode features (batch, frames, num_mels) into a ``time_pooling``-th of the frames, at least one."""
        pooling = self.config.time_pooling
        x = features[..., None]
        for block in self.blocks:
            x = block(x, frame_lengths)
        if x.shape[1] < pooling:
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, pooling - x.shape[1]))
        x = _largest(x, 1, pooling).flatten(2)
        frame_lengths = (frame_lengths // pooling).clamp_min(1)
        x = run_recurrent(self.rnn, x, frame_lengths)
        valid = length_mask(frame_lengths, x.shape[1])
        for linear in self.linears:
            x = linear(x, valid)
        return Encoded(x * valid[..., None], frame_lengths, pooling * self.front.hop_length / self.config.sample_rate)

    def decoder_logits(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens)."""
        state = self.start(encoded, 1)
        found = []
        for read in tokens.unbind(1):
            logits, state = self._spell_on(read[:, None], state)
            found.append(logits[:, 0])
        return torch.stack(found, 1)

    def start(self, encoded: Encoded, beam_size: int) -> CRDNNState:
        """Zeros for every prefix, each utterance's frames looked at alike, and what they are found by."""
        frames, config = encoded.states, self.config
        batch, number = frames.shape[:2]
        valid = length_mask(encoded.frame_lengths, number)
        looked = (valid / encoded.frame_lengths[:, None])[:, None].expand(-1, beam_size, -1)
        hidden = frames.new_zeros(config.decoder_layers, batch, beam_size, config.decoder_size)
        context = frames.new_zeros(batch, beam_size, config.attention_size)
        return CRDNNState(hidden, context, looked.to(frames), frames, self.of_frame(frames), valid)

    def step(self, tokens: Tensor, state: CRDNNState) -> tuple[Tensor, CRDNNState, Tensor]:
        """Read a token of each prefix, (batch, beam)."""
        logits, state = self._spell_on(tokens, state)
        return torch.log_softmax(logits.float(), -1), state, state.looked

    def select(self, state: CRDNNState, parents: Tensor) -> CRDNNState:
        """Reorder the prefixes."""
        return state.select(parents)

    def keep(self, state: CRDNNState, utterances: Tensor) -> CRDNNState:
        """Keep these utterances alone."""
        return state.keep(utterances)

    def forward(self, waveform: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each token, given waveforms (batch, time)."""
        return self.decoder_logits(self.encode(waveform, lengths), tokens)

    def _spell_on(self, tokens: Tensor, state: CRDNNState) -> tuple[Tensor, CRDNNState]:
        """Read a token of each prefix, look where it leads, and say what follows: logits (batch, beam, classes)."""
        batch, beam = tokens.shape
        x = self.dropout(torch.cat((self.embedding(tokens), state.context), -1)).flatten(0, 1)
        hidden = []
        for layer, cell in enumerate(self.cells):
            x = cell(self.dropout(x) if layer else x, state.hidden[layer].flatten(0, 1))
            hidden.append(x.reshape(batch, beam, -1))
        located = self.of_location(self.location(state.looked.flatten(0, 1)[:, None]).mT)
        seen = self.of_state(hidden[-1])[:, :, None] + state.keys[:, None] + located.unflatten(0, (batch, beam))
        energies = self.energy(seen.tanh())[..., 0].masked_fill(~state.valid[:, None], -torch.inf)
        looked = (self.config.scaling * energies).softmax(-1)
        context = self.of_context(looked @ state.frames)
        logits: Tensor = self.spell(self.mix(torch.cat((context, hidden[-1]), -1)))
        # As in the original, the attention does not learn from where it led to later.
        return logits, replace(state, hidden=torch.stack(hidden), context=context, looked=looked.detach())


def _activation(config: CRDNNConfig) -> nn.Module:
    return nn.LeakyReLU() if config.activation == "leaky_relu" else nn.ReLU()


def _largest(x: Tensor, axis: int, number: int) -> Tensor:
    """The largest of every ``number`` neighbours along an axis; what does not fill a group is left out."""
    groups = x.shape[axis] // number
    x = x.narrow(axis, 0, groups * number)
    return x.reshape(*x.shape[:axis], groups, number, *x.shape[axis + 1 :]).amax(axis + 1)
