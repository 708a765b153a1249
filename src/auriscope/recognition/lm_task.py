"""Training a language model on texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from auriscope.data.items import evenly_spread
from auriscope.data.texts import TextBatches, TextConfig, fixed_batches, split_texts
from auriscope.errors import RecipeError
from auriscope.recognition.language_model import LanguageModel, pad_tokens
from auriscope.training.recipe import Recipe, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class TextValidation:
    """How the texts that choose the weights are read; ``max_items`` of them, evenly spread, or all."""

    batch_characters: int = 8000
    max_items: int | None = None


class LanguageModelTask(nn.Module):
    """Cross-entropy of every token and of the sentence's end; measured in bits per character."""

    selection_metric = "bits_per_character"
    higher_is_better = False

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters."""
        return {"main": self.model.parameters()}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of a batch, in nats per token."""
        return self.model.losses(*self._numbers(batch))

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Bits per character of each text, its end counting as one, (batch,)."""
        nats = self.model.surprise(*self._numbers(batch)).sum(1).double().cpu()
        characters = torch.tensor([len(text) + 1 for text in batch["text"]])
        return {"bits_per_character": nats / math.log(2) / characters}

    def _numbers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        tokens, token_lengths = pad_tokens(self.model.tokenizer.encode(text) for text in batch["text"])
        return tokens.to(self.model.device), token_lengths.to(self.model.device)


def build(recipe: Recipe, model: LanguageModel) -> tuple[LanguageModelTask, TextBatches, list[dict[str, Any]]]:
    """Make a recipe's task, training batches and validation batches for a language model that is built already."""
    if recipe.task_options:
        raise RecipeError(f"task_options: language models have none, but there is {next(iter(recipe.task_options))!r}")
    data = parse(TextConfig, recipe.data, "data")
    options = parse(TextValidation, recipe.validation, "validation")
    every = split_texts(data, "valid")
    texts = [every[place] for place in evenly_spread(len(every), options.max_items)]
    return LanguageModelTask(model), TextBatches(data, seed=recipe.seed), fixed_batches(texts, options.batch_characters)
