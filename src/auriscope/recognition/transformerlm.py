"""A transformer as a language model.

K. Irie et al., "Language Modeling with Deep Transformers" (arXiv 1905.04226); in the size that SpeechBrain's recipe for
LibriSpeech uses beside its transformer recogniser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from auriscope.nn.transformer import Activation, TransformerDecoder, TransformerState
from auriscope.recognition.language_model import LanguageModel, LanguageModelConfig


@dataclass(frozen=True)
class TransformerLMConfig(LanguageModelConfig):
    """The configuration of the transformer language model; ``hidden_size`` is that of the feed-forward layers."""

    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_size: int = 3072
    dropout: float = 0.1
    activation: Activation = "gelu"
    norm_first: bool = False


class TransformerLM(LanguageModel, name="recognition/transformer-lm"):
    """Tokens (batch, tokens) to logits of what follows each."""

    Config = TransformerLMConfig
    Tiny: ClassVar[dict[str, Any]] = {"dim": 16, "num_layers": 2, "num_heads": 2, "hidden_size": 32, "dropout": 0.0}

    def __init__(self, config: TransformerLMConfig) -> None:
        super().__init__(config)
        self.decoder = TransformerDecoder(
            len(config.tokens),
            config.dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            hidden_size=config.hidden_size,
            dropout=config.dropout,
            cross=False,
            activation=config.activation,
            norm_first=config.norm_first,
        )

    def forward(self, tokens: Tensor, token_lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Logits (batch, tokens, classes); no token sees a later one, so ends need no mask."""
        logits: Tensor = self.decoder(tokens)
        return logits

    def start(
        self,
        batch: int,
        beam_size: int,
        device: torch.device | str | None = None,  # noqa: ARG002
    ) -> TransformerState:
        """The state before the first token, on the device of the weights."""
        return self.decoder.start(batch, beam_size)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Read a token of each prefix, (batch, beam)."""
        logits, state, _ = self.decoder.step(tokens, state)
        return torch.log_softmax(logits.float(), -1), state

    def select(self, state: TransformerState, parents: Tensor) -> TransformerState:
        """Reorder the prefixes; what they have read stays where it is."""
        return state.select(parents)

    def keep(self, state: TransformerState, utterances: Tensor) -> TransformerState:
        """Keep these utterances alone."""
        return state.keep(utterances)
