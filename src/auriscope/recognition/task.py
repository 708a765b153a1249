"""Training a recogniser: CTC, a decoder with attention, or both, on batches of transcribed speech."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from auriscope.data.texts import TextBatches
from auriscope.data.transcribed import TranscribedBatches, TranscribedConfig, padded, spoken_set
from auriscope.errors import RecipeError
from auriscope.metrics.wer import character_errors, word_errors
from auriscope.recognition import lm_task
from auriscope.recognition.greedy import transcripts
from auriscope.recognition.language_model import LanguageModel, pad_tokens
from auriscope.recognition.lm_task import LanguageModelTask
from auriscope.recognition.recognizer import Recognizer
from auriscope.signal.features import SpecAugment
from auriscope.training.recipe import Recipe, build_model, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class RecognitionOptions(SpecAugment):
    """What a recipe may say about the loss, and about what is blanked in every utterance.

    Args:
        ctc_weight: of CTC beside the decoder, in models that have both.
        label_smoothing: of the decoder's cross-entropy.
    """

    ctc_weight: float = 0.3
    label_smoothing: float = 0.1
    num_mel_masks: int = 2
    max_mel_width: int = 15
    num_time_masks: int = 4
    max_time_width: int = 30


@dataclass(frozen=True)
class RecognitionValidation:
    """Which utterances choose the weights: the first ``max_items`` of each set that last at most ``max_seconds``."""

    sets: tuple[str, ...] = ("libri_251spk",)
    split: str = "valid"
    batch_size: int = 8
    max_items: int | None = None
    max_seconds: float = 30.0


class RecognitionTask(nn.Module):
    """The losses of :meth:`~auriscope.recognition.recognizer.Recognizer.losses`, on features partly blanked."""

    selection_metric = "character_error"
    higher_is_better = False

    def __init__(self, model: Recognizer, options: RecognitionOptions | None = None) -> None:
        super().__init__()
        self.model = model
        self.options = options or RecognitionOptions()

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters."""
        return {"main": self.model.parameters()}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The losses of a batch."""
        options, model = self.options, self.model
        waveform = batch["waveform"]
        # Powers and their logarithms lose what a network needs of them in sixteen bits.
        with torch.autocast(waveform.device.type, enabled=False):
            features, frame_lengths = model.features(waveform, batch["lengths"])
        if self.training and not batch.get("plain") and features.shape[-1] > 1:
            features = options.blanked(features, frame_lengths)
        encoded = model.encode_features(features, frame_lengths)
        tokens, token_lengths = pad_tokens(model.tokenizer.encode(text) for text in batch["text"])
        return model.losses(
            encoded,
            tokens.to(features.device),
            token_lengths.to(features.device),
            ctc_weight=options.ctc_weight,
            label_smoothing=options.label_smoothing,
        )

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Character and word errors of the greedy transcripts as a share of what was said, each (batch,)."""
        found = transcripts(self.model, batch["waveform"], batch["lengths"])
        return {
            "character_error": torch.from_numpy(character_errors(found, batch["text"]).rates),
            "word_error": torch.from_numpy(word_errors(found, batch["text"]).rates),
        }


class SpokenBatches:
    """The utterances of several sets in batches, each time the same, sorted by length within a set."""

    def __init__(self, options: RecognitionValidation, sample_rate: int) -> None:
        self.batches: list[dict[str, Any]] = []
        for name in options.sets:
            spoken = spoken_set(
                name,
                options.split,
                sample_rate=sample_rate,
                max_items=options.max_items,
                max_seconds=options.max_seconds,
            )
            order = sorted(range(len(spoken)), key=spoken.seconds.__getitem__)
            for first in range(0, len(order), options.batch_size):
                items = [spoken[index] for index in order[first : first + options.batch_size]]
                facts = {"text": [item.text for item in items], "id": [item.id for item in items]}
                self.batches.append(padded([item.waveform for item in items]) | facts)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.batches)


def build(
    recipe: Recipe,
) -> tuple[RecognitionTask | LanguageModelTask, TranscribedBatches | TextBatches, Iterable[Batch]]:
    """Make a recipe's task, training batches and validation batches; ``RecipeError`` if they do not fit together."""
    model = build_model(recipe)
    if isinstance(model, LanguageModel):
        return lm_task.build(recipe, model)
    if not isinstance(model, Recognizer):
        raise RecipeError(f"model.architecture: {recipe.model.architecture} does not transcribe")
    rate = int(model.config.sample_rate)
    data = parse(TranscribedConfig, {"sample_rate": rate, **recipe.data}, "data")
    if data.sample_rate != rate:
        raise RecipeError(f"data is at {data.sample_rate} Hz, the model at {rate} Hz: give both the same")
    num_threads = min(8, max(1, (os.cpu_count() or 2) - 1))
    batches = TranscribedBatches(data, seed=recipe.seed, num_threads=num_threads)
    validation = SpokenBatches(parse(RecognitionValidation, recipe.validation, "validation"), rate)
    return RecognitionTask(model, parse(RecognitionOptions, recipe.task_options, "task_options")), batches, validation
