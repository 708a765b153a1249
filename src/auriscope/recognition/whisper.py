"""Whisper: a transformer that hears windows of 30 seconds and writes what is said in them, in any language.

A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (arXiv 2212.04356).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.nn.attention import MultiHeadAttention, PrefixCache, attention_weights
from auriscope.nn.masks import choice, length_mask
from auriscope.nn.transformer import TransformerLayer, TransformerState
from auriscope.recognition.recognizer import Encoded, Recognizer
from auriscope.signal.features import make_features
from auriscope.text.bytelevel import BYTES, ByteTokenizer, byte_pieces

Task = Literal["transcribe", "translate"]
BEGIN, END, NO_TIMES = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_HOP = 160


@dataclass(frozen=True)
class WhisperConfig:
    """The configuration of Whisper; the defaults are the paper's ``base``, but for the tokens.

    Args:
        sample_rate: in hertz.
        num_mels: of the features; 128 in the newest published models.
        dim: channels.
        num_layers: of the encoder.
        num_decoder_layers: of the decoder.
        num_heads: of every attention.
        hidden_size: of the feed-forward layers.
        num_positions: states of a window, of 20 ms each.
        num_text_positions: tokens that the decoder can read, the prompt included.
        dropout: probability, behind every part.
        tokens: as :class:`~auriscope.text.bytelevel.ByteTokenizer` spells them; by default the bytes alone.
        merges: its pairs of tokens.
        multilingual: whether the prompt names language and task.
        language: spoken in the recordings, such as "en"; None: found out for each.
        task: "transcribe", or "translate" to English.
        suppressed: numbers of tokens that are never written when decoding.
        suppressed_first: those not written as the first.
        alignment_heads: (layer, head) of the decoder's heads that look at what is being written; empty: all heads of
            the later half of the layers.
    """

    sample_rate: int = 16_000
    num_mels: int = 80
    dim: int = 512
    num_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    hidden_size: int = 2048
    num_positions: int = 1500
    num_text_positions: int = 448
    dropout: float = 0.0
    tokens: tuple[str, ...] = (*BYTES, END, BEGIN, "<|en|>", "<|translate|>", "<|transcribe|>", NO_TIMES)
    merges: tuple[str, ...] = ()
    multilingual: bool = True
    language: str | None = "en"
    task: Task = "transcribe"
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    alignment_heads: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        choice(self.task, get_args(Task), "task")
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} must be a multiple of num_heads {self.num_heads}")
        for token in (BEGIN, END, NO_TIMES):
            if token not in self.tokens:
                raise ValueError(f"tokens have no {token}")
        if any(not 0 <= number < len(self.tokens) for number in (*self.suppressed, *self.suppressed_first)):
            raise ValueError(f"suppressed tokens must be below {len(self.tokens)}")
        for layer, head in self.alignment_heads:
            if not (0 <= layer < self.num_decoder_layers and 0 <= head < self.num_heads):
                raise ValueError(f"alignment_heads names head {head} of layer {layer}, which there is not")


class _AligningAttention(MultiHeadAttention):
    """Attention to the frames, whose map is that of some of its heads."""

    heads: tuple[int, ...] = ()

    def attend(
        self,
        query: Tensor,
        memory: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As of every attention, but the map is the sum of the chosen heads', None without any."""
        output, _ = super().attend(query, memory, mask, causal=causal)
        if not need_weights or not self.heads:
            return output, None
        chosen = list(self.heads)
        return output, attention_weights(query[:, chosen], memory[0][:, chosen], mask).sum(1)


class WhisperEncoder(nn.Module):
    """Features (batch, 2 * num_positions, num_mels) to states (batch, num_positions, dim)."""

    positions: Tensor

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(config.num_mels, config.dim, 3, padding=1)
        self.conv2 = nn.Conv1d(config.dim, config.dim, 3, stride=2, padding=1)
        self.register_buffer("positions", _sinusoids(config.num_positions, config.dim))
        self.layers = nn.ModuleList(_layer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Encode a whole window."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(features.mT)))).mT
        x = self.dropout(x + self.positions)
        for layer in self.layers:
            x, _ = layer(x, lambda attention, y: attention(y)[0])
        states: Tensor = self.norm(x)
        return states


class WhisperDecoder(nn.Module):
    """Tokens and a window's states to logits of what follows each token."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.embedding = nn.Embedding(len(config.tokens), config.dim)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.positions = nn.Parameter(0.01 * torch.randn(config.num_text_positions, config.dim))
        self.layers = nn.ModuleList(_layer(config, cross=True) for _ in range(config.num_decoder_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        later = range(config.num_decoder_layers // 2, config.num_decoder_layers)
        heads = config.alignment_heads or [(layer, head) for layer in later for head in range(config.num_heads)]
        self.num_aligning = len(heads)
        for number, layer in enumerate(self._each()):
            layer.cross = _AligningAttention(config.dim, config.num_heads, config.dropout)
            layer.cross.heads = tuple(head for owner, head in heads if owner == number)

    def _each(self) -> list[TransformerLayer]:
        return [layer for layer in self.layers if isinstance(layer, TransformerLayer)]

    def forward(self, tokens: Tensor, states: Tensor) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens)."""
        x = self.dropout(self.embedding(tokens) + self.positions[: tokens.shape[1]])
        for layer in self._each():
            x, _ = layer(x, lambda attention, y: attention(y, causal=True)[0], layer.remember(states))
        return F.linear(self.norm(x), self.embedding.weight)

    def start(self, states: Tensor, beam_size: int) -> TransformerState:
        """The state before the first token of ``beam_size`` prefixes of each window."""
        memories = tuple(layer.remember(states) for layer in self._each())
        width = states.shape[2] // self.num_heads
        cache = PrefixCache.empty(len(self.layers), len(states), beam_size, self.num_heads, width, states)
        return TransformerState(cache, memories)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState, Tensor]:
        """Read a token of each prefix (batch, beam): logits, the new state, and the mean map of the aligning heads."""
        cache = state.cache.extended()
        mask = cache.mask()
        x = self.dropout(self.embedding(tokens) + self.positions[cache.num_tokens - 1])
        total = x.new_zeros(*tokens.shape, state.memories[0][0].shape[2])
        for number, layer in enumerate(self._each()):

            def look(attention: MultiHeadAttention, y: Tensor, number: int = number) -> Tensor:
                query, key, value = attention.itself(y)
                return attention.attend(query, cache.append(number, key, value), mask)[0]

            x, weights = layer(x, look, state.memories[number], need_weights=True)
            if weights is not None:
                total = total + weights
        logits = F.linear(self.norm(x), self.embedding.weight)
        return logits, replace(state, cache=cache), total / self.num_aligning


@dataclass(frozen=True)
class WhisperState:
    """What the decoder knows of a beam; ``prompt`` (batch, tokens) is what it has still to read before all else."""

    decoder: TransformerState
    frame_lengths: Tensor
    prompt: Tensor | None

    def select(self, parents: Tensor) -> WhisperState:
        """Reorder the prefixes: new prefix k continues what ``parents`` (batch, beam) names."""
        return replace(self, decoder=self.decoder.select(parents))

    def keep(self, utterances: Tensor) -> WhisperState:
        """Keep the utterances of these numbers alone, (n,) int64."""
        prompt = None if self.prompt is None else self.prompt[utterances]
        return WhisperState(self.decoder.keep(utterances), self.frame_lengths[utterances], prompt)


class Whisper(Recognizer, name="recognition/whisper"):
    """Waveforms (batch, time) of at most 30 s and tokens (batch, tokens) to logits of what follows each token.

    The beginning of a sentence stands for the whole prompt: language, task, and that no times are to be written.
    ``language`` and ``task`` may be changed at any time.
    """

    Config = WhisperConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_mels": 20,
        "dim": 16,
        "num_layers": 1,
        "num_decoder_layers": 2,
        "num_heads": 2,
        "hidden_size": 32,
        "num_positions": 60,
        "num_text_positions": 40,
    }
    Published: ClassVar[dict[str, float]] = {
        "WER on LibriSpeech test-clean, base.en, its own normaliser (%)": 4.2,
        "WER on LibriSpeech test-clean, large-v2, its own normaliser (%)": 2.7,
    }
    has_decoder = True

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.language, self.task = config.language, config.task
        self.front = make_features("whisper", sample_rate=config.sample_rate, num_mels=config.num_mels)
        self.encoder = WhisperEncoder(config)
        self.decoder = WhisperDecoder(config)
        self._suppressed = torch.tensor(config.suppressed, dtype=torch.int64)
        self._suppressed_first = torch.tensor(config.suppressed_first, dtype=torch.int64)

    @cached_property
    def tokenizer(self) -> ByteTokenizer:
        """The tokens of the configuration."""
        tokens = self.config.tokens
        return byte_pieces(tokens, self.config.merges, bos_id=tokens.index(BEGIN), eos_id=tokens.index(END))

    @cached_property
    def languages(self) -> dict[str, int]:
        """The token numbers of the languages that the model knows, by their codes."""
        found = ((_LANGUAGE.fullmatch(token), number) for number, token in enumerate(self.config.tokens))
        return {match[1]: number for match, number in found if match}

    @property
    def max_seconds(self) -> float:
        """The longest recording that fits into a window."""
        return float(2 * self.config.num_positions * _HOP / self.config.sample_rate)

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-mel features of the whole window, (batch, 2 * num_positions, num_mels), and the frames that are sound.

        Raises ``AuriscopeError`` for a recording that does not fit into a window.
        """
        time, room = waveform.shape[1], 2 * self.config.num_positions * _HOP
        if lengths is None:
            lengths = torch.full((len(waveform),), time, device=waveform.device)
        longest = int(lengths.max())
        if longest > room:
            raise AuriscopeError(
                f"a recording of {longest / self.config.sample_rate:.1f} s does not fit into a window of "
                f"{self.max_seconds:g} s: cut it into shorter ones"
            )
        waveform = torch.where(length_mask(lengths, time), waveform, 0.0)[:, :room]
        features, _ = self.front(F.pad(waveform, (0, room - waveform.shape[1])))
        return features, -(-lengths // _HOP)

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        """Encode the features of windows; the silence behind the end is heard, too, as it was in the training."""
        seconds = 2 * _HOP / self.config.sample_rate
        return Encoded(self.encoder(features), (frame_lengths + 1) // 2, seconds)

    def prompt(self, encoded: Encoded) -> Tensor:
        """What the decoder reads first of each window, (batch, tokens).

        Raises ``AuriscopeError`` where the model does not know ``language``.
        """
        batch, tokens = len(encoded.states), self.config.tokens
        begin, end = tokens.index(BEGIN), tokens.index(NO_TIMES)
        device = encoded.states.device
        if not self.config.multilingual:
            return torch.tensor([[begin, end]], device=device).expand(batch, -1)
        choice(self.task, get_args(Task), "task")
        if self.language is None:
            spoken = self.language_log_probs(encoded).argmax(-1)
            numbers = torch.tensor(list(self.languages.values()), device=device)[spoken]
        elif self.language in self.languages:
            numbers = torch.full((batch,), self.languages[self.language], device=device)
        else:
            raise AuriscopeError(
                f"the model does not know the language {self.language!r}; it knows {', '.join(sorted(self.languages))}"
            )
        fixed = torch.tensor([begin, tokens.index(f"<|{self.task}|>"), end], device=device).expand(batch, -1)
        return torch.cat((fixed[:, :1], numbers[:, None], fixed[:, 1:]), 1)

    def language_log_probs(self, encoded: Encoded) -> Tensor:
        """How likely each of ``languages`` is spoken, natural logarithms (batch, languages)."""
        begin = torch.full((len(encoded.states), 1), self.config.tokens.index(BEGIN), device=encoded.states.device)
        logits: Tensor = self.decoder(begin, encoded.states)[:, 0]
        return logits[:, list(self.languages.values())].float().log_softmax(-1)

    def decoder_logits(self, encoded: Encoded, tokens: Tensor) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens).

        The first of ``tokens`` stands for the prompt. ``AuriscopeError`` if there are more tokens than positions.
        """
        prompt = self.prompt(encoded)
        everything = torch.cat((prompt, tokens[:, 1:]), 1)
        if everything.shape[1] > self.config.num_text_positions:
            raise AuriscopeError(
                f"a text of {tokens.shape[1] - 1} tokens is too long: with the prompt, at most "
                f"{self.config.num_text_positions} can be read"
            )
        logits: Tensor = self.decoder(everything, encoded.states)
        return logits[:, prompt.shape[1] - 1 :]

    def start(self, encoded: Encoded, beam_size: int) -> WhisperState:
        """Let every layer of the decoder look up the states, and make the prompt."""
        return WhisperState(self.decoder.start(encoded.states, beam_size), encoded.frame_lengths, self.prompt(encoded))

    def step(self, tokens: Tensor, state: WhisperState) -> tuple[Tensor, WhisperState, Tensor]:
        """Read a token of each prefix, the first being the prompt; where positions end, so does the sentence."""
        first, inner = state.prompt is not None, state.decoder
        if inner.cache.num_tokens >= self.config.num_text_positions:
            log_probs = torch.full((*tokens.shape, len(self.config.tokens)), -torch.inf, device=tokens.device)
            log_probs[..., self.tokenizer.eos_id] = 0.0
            nowhere = log_probs.new_full((*tokens.shape, inner.memories[0][0].shape[2]), 0.0)
            return log_probs, state, self._attention(nowhere + 1.0, state.frame_lengths)
        if state.prompt is not None:
            for number in state.prompt[:, :-1].unbind(1):
                _, inner, _ = self.decoder.step(number[:, None].expand_as(tokens), inner)
            tokens = state.prompt[:, -1:].expand_as(tokens)
        logits, inner, attention = self.decoder.step(tokens, inner)
        logits = logits.float()
        for numbers in (self._suppressed, self._suppressed_first) if first else (self._suppressed,):
            logits[..., numbers.to(logits.device)] = -torch.inf
        state = replace(state, decoder=inner, prompt=None)
        return torch.log_softmax(logits, -1), state, self._attention(attention, state.frame_lengths)

    def select(self, state: WhisperState, parents: Tensor) -> WhisperState:
        """Reorder the prefixes; what they have read stays where it is."""
        return state.select(parents)

    def keep(self, state: WhisperState, utterances: Tensor) -> WhisperState:
        """Keep these utterances alone."""
        return state.keep(utterances)

    def forward(self, waveform: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each token, given waveforms (batch, time)."""
        return self.decoder_logits(self.encode(waveform, lengths), tokens)

    def _attention(self, attention: Tensor, frame_lengths: Tensor) -> Tensor:
        """The share of the attention that each frame with sound has, (batch, beam, frames)."""
        heard = attention * length_mask(frame_lengths.clamp_min(1), attention.shape[2])[:, None]
        return heard / heard.sum(-1, keepdim=True).clamp_min(1e-9)


def _layer(config: WhisperConfig, *, cross: bool = False) -> TransformerLayer:
    return TransformerLayer(
        config.dim, config.num_heads, config.hidden_size, config.dropout, cross=cross, activation="gelu"
    )


def _sinusoids(number: int, dim: int) -> Tensor:
    """Whisper's positions (number, dim): sines in the first half of the channels, cosines in the second."""
    rates = torch.exp(torch.arange(dim // 2) * (-math.log(10_000.0) / max(1, dim // 2 - 1)))
    angles = torch.arange(number)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), 1)
