"""What every language model is to training and decoding: how likely which token is to follow."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.pretrained.model import Model
from auriscope.recognition.recognizer import ENGLISH
from auriscope.text.tokenizer import Tokenizer, TokenKind


@dataclass(frozen=True)
class LanguageModelConfig:
    """What the configuration of every language model begins with: its tokens, those of the recogniser it helps."""

    tokens: tuple[str, ...] = ("<blank>", "<eos>", *ENGLISH)
    token_kind: TokenKind = "characters"
    token_scores: tuple[float, ...] = ()
    blank_id: int = 0
    bos_id: int = 1
    eos_id: int = 1


class LanguageModel(Model):
    """Base of every language model over tokens: P(token | all tokens before), the first being the sentence's beginning.

    :meth:`forward` reads whole sentences; :meth:`start`, :meth:`step`, :meth:`select` and :meth:`keep` read token by
    token for a beam of prefixes of every utterance, as the decoder of a
    :class:`~auriscope.recognition.recognizer.Recognizer` does, and give the same. Rows of the beam are ordered (batch,
    beam). All logarithms are natural.
    """

    unexportable: ClassVar[str] = "the number of tokens is data"
    instead: ClassVar[str] = "tells how likely a text is"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokens of the configuration."""
        config = self.config
        ends = config.bos_id, config.eos_id
        return Tokenizer(config.tokens, config.token_kind, config.token_scores, config.blank_id, *ends)

    @abstractmethod
    def forward(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, tokens, classes) of what follows each of the tokens (batch, tokens).

        ``token_lengths`` (batch,) of them are valid; what is behind the end may be anything.
        """

    @abstractmethod
    def start(self, batch: int, beam_size: int, device: torch.device | str | None = None) -> Any:
        """Make the state before the first token, for ``beam_size`` prefixes of each of ``batch`` utterances.

        A model with weights has it where these are; only one without needs to be told a ``device``.
        """

    @abstractmethod
    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read a token of each prefix, (batch, beam): log-probabilities (batch, beam, classes), and the new state."""

    @abstractmethod
    def select(self, state: Any, parents: Tensor) -> Any:
        """Reorder the prefixes of every utterance: new prefix k is what ``parents`` (batch, beam) names."""

    @abstractmethod
    def keep(self, state: Any, utterances: Tensor) -> Any:
        """Keep the utterances of these numbers alone, (n,) int64: the others are done."""

    def surprise(self, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """-ln P of every token and of the sentence's end, (batch, tokens + 1), zeros behind it.

        Shapes: ``tokens`` (batch, tokens), without the sentence's ends, of which ``token_lengths`` (batch,) are valid.
        """
        bos, eos = self.tokenizer.bos_id, self.tokenizer.eos_id
        assert bos is not None
        assert eos is not None
        places = torch.arange(tokens.shape[1] + 1, device=tokens.device)
        body = torch.where(places[:-1] < token_lengths[:, None], tokens, eos)
        begin, end = tokens.new_full((len(tokens), 1), bos), tokens.new_full((len(tokens), 1), eos)
        logits = self(torch.cat((begin, body), 1), token_lengths + 1).float()
        each = F.cross_entropy(logits.mT, torch.cat((body, end), 1), reduction="none")
        return each * (places <= token_lengths[:, None])

    def losses(self, tokens: Tensor, token_lengths: Tensor) -> dict[str, Tensor]:
        """The mean of :meth:`surprise` over all tokens of a batch, as ``loss``."""
        return {"loss": self.surprise(tokens, token_lengths).sum() / (token_lengths + 1).sum()}


def pad_tokens(numbers: Iterable[list[int]]) -> tuple[Tensor, Tensor]:
    """Stack lists of token numbers: ``tokens`` (batch, longest), zeros at the ends, and ``token_lengths`` (batch,)."""
    entries = [torch.tensor(entry, dtype=torch.int64) for entry in numbers]
    token_lengths = torch.tensor([len(entry) for entry in entries], dtype=torch.int64)
    return torch.nn.utils.rnn.pad_sequence(entries, batch_first=True), token_lengths


@dataclass(frozen=True)
class Perplexity:
    """How well a language model foresees texts: ``bits_per_character``, and perplexities per token and per word.

    Each counts a sentence's end as one more character, token or word.
    """

    bits_per_character: float
    token_perplexity: float
    word_perplexity: float


@torch.no_grad()
def perplexity(model: LanguageModel, texts: Iterable[str], batch_size: int = 32) -> Perplexity:
    """Measure a language model on texts, all of whose tokens count alike."""
    ordered = sorted(texts, key=len)
    nats, characters, tokens, words = 0.0, 0, 0, 0
    for first in range(0, len(ordered), batch_size):
        chosen = ordered[first : first + batch_size]
        numbers, lengths = pad_tokens(model.tokenizer.encode(text) for text in chosen)
        nats += float(model.surprise(numbers.to(model.device), lengths.to(model.device)).double().sum())
        tokens += int(lengths.sum()) + len(chosen)
        characters += sum(len(text) + 1 for text in chosen)
        words += sum(len(text.split()) + 1 for text in chosen)
    return Perplexity(nats / math.log(2) / characters, math.exp(nats / tokens), math.exp(nats / words))
