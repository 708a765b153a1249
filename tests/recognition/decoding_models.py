"""Recognisers and language models for the tests of decoding: small enough to try every text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from auriscope.recognition.joint import Joint
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.text.tokenizer import BLANK, EOS

TOKENS = (BLANK, EOS, "A", "B", " ")


def encoded_of(states: Tensor, frame_lengths: list[int] | None = None) -> Encoded:
    lengths = [states.shape[1]] * len(states) if frame_lengths is None else frame_lengths
    return Encoded(states, torch.tensor(lengths), 0.1)


def joint(tokens: tuple[str, ...] = TOKENS, seed: int = 0) -> Joint:
    """A joint recogniser with random weights, large enough that it has opinions."""
    torch.manual_seed(seed)
    model = Joint.from_config({**Joint.Tiny, "tokens": tokens}).eval()
    with torch.no_grad():
        for part in (model.head, model.decoder.head):
            part.weight.mul_(6.0)
        model.decoder.embedding.weight.mul_(3.0)
    return model


def states_of(model: Joint, frames: list[int], seed: int = 1) -> Encoded:
    """Random encoder states (batch, frames, dim) of so many frames each."""
    generator = torch.Generator().manual_seed(seed)
    return encoded_of(torch.randn(len(frames), max(frames), model.config.dim, generator=generator), frames)


class Given(Recognizer):
    """CTC whose logits are the encoder's states themselves."""

    Config = RecognizerConfig
    has_ctc = True
    name = "tests/given"

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        raise NotImplementedError

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        return encoded.states


def given(tokens: tuple[str, ...]) -> Given:
    return Given(RecognizerConfig(tokens=tokens))


@dataclass(frozen=True)
class Reading:
    """Which frame each prefix reads next (batch, beam), and the states."""

    place: Tensor
    states: Tensor
    frame_lengths: Tensor


class Pointer(Given):
    """A decoder that looks at every ``stride``-th frame, whose state says the token; after the last frame it ends.

    With ``endless`` it begins anew instead.
    """

    has_ctc = False
    has_decoder = True
    name = "tests/pointer"
    stride = 2
    endless = False

    def start(self, encoded: Encoded, beam_size: int) -> Reading:
        place = torch.zeros(len(encoded.states), beam_size, dtype=torch.int64)
        return Reading(place, encoded.states, encoded.frame_lengths)

    def step(self, tokens: Tensor, state: Reading) -> tuple[Tensor, Reading, Tensor]:
        assert tokens.shape == state.place.shape
        batch, frames, classes = state.states.shape
        over = state.place >= state.frame_lengths[:, None]
        place = torch.where(over, state.place % state.frame_lengths[:, None] if self.endless else 0, state.place)
        logits = state.states[torch.arange(batch)[:, None], place]
        eos = self.tokenizer.eos_id
        assert eos is not None
        end = 20.0 * torch.nn.functional.one_hot(torch.tensor(eos), classes)
        logits = torch.where(over[..., None] & (not self.endless), end.expand_as(logits), logits)
        attention = torch.nn.functional.one_hot(place, frames).float()
        return logits.log_softmax(-1), Reading(state.place + self.stride, state.states, state.frame_lengths), attention

    def select(self, state: Reading, parents: Tensor) -> Reading:
        return Reading(state.place.gather(1, parents), state.states, state.frame_lengths)

    def keep(self, state: Reading, utterances: Tensor) -> Reading:
        return Reading(state.place[utterances], state.states[utterances], state.frame_lengths[utterances])


class Bigram:
    """A language model over words from a table: the probability of a word after another, or of ``unknown``."""

    unknown = 0.01

    def __init__(self, table: Mapping[tuple[str, str], float]) -> None:
        self.table = table
        self.vocabulary = sorted({word for _, word in table} - {"</s>"})

    def start_state(self) -> str:
        return "<s>"

    def score_word(self, state: Any, word: str) -> tuple[float, str]:
        return math.log(self.table.get((state, word), self.unknown)), word

    def score_end(self, state: Any) -> float:
        return math.log(self.table.get((state, "</s>"), self.unknown))


def all_texts(tokens: list[int], longest: int) -> Iterator[tuple[int, ...]]:
    """Every list of at most ``longest`` of the tokens."""
    level: list[tuple[int, ...]] = [()]
    for _ in range(longest + 1):
        yield from level
        level = [(*text, token) for text in level for token in tokens]


def peaks(text: str, tokens: tuple[str, ...], every: int = 2, height: float = 8.0) -> Tensor:
    """Logits (1, frames, tokens) that say a text: a token at every ``every``-th frame, blanks between them."""
    logits = torch.zeros(1, every * len(text) + 1, len(tokens))
    logits[..., 0] = height
    for number, letter in enumerate(text):
        logits[0, every * number + 1, 0] = 0.0
        logits[0, every * number + 1, tokens.index(letter)] = height
    return logits
