"""Training a speaker model: to tell the speakers of the training set by angles, chosen by verifying others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from auriscope.data.cries import CriesBatches, CriesConfig
from auriscope.data.voices import HALVES, VoicesBatches, VoicesConfig, trials
from auriscope.errors import RecipeError
from auriscope.signal.features import SpecAugment
from auriscope.speaker.contrastive import ContrastiveOptions, ContrastiveTask
from auriscope.speaker.embedder import Embedder
from auriscope.speaker.losses import AAMSoftmax
from auriscope.speaker.verifying import VerifyingTask
from auriscope.training.recipe import Recipe, build_model, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class SpeakerOptions(SpecAugment):
    """What a recipe may say about the loss, and about what is blanked in every crop.

    Args:
        margin: of the angles, in radians (:class:`~auriscope.speaker.losses.AAMSoftmax`).
        margin_start_batches: batches before there is a margin.
        margin_warmup_batches: batches within which it then grows to the whole.
        scale: of the cosines.
    """

    margin: float = 0.2
    margin_start_batches: int = 0
    margin_warmup_batches: int = 0
    scale: float = 30.0
    num_mel_masks: int = 1
    max_mel_width: int = 10
    num_time_masks: int = 1
    max_time_width: int = 5

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin < 1.5 or not self.scale > 0.0:
            raise RecipeError("task_options: margin must lie between 0 and 1.5, and scale be above 0")


@dataclass(frozen=True)
class SpeakerValidation:
    """By which trials (:func:`~auriscope.data.voices.trials`) the weights are chosen: their mean equal error rate."""

    sets: tuple[str, ...] = (HALVES,)
    split: str = "valid"


class SpeakerTask(VerifyingTask):
    """Cross-entropy of the training set's speakers with an angular margin; equal error rate on trials of others.

    The speakers' own vectors are the task's, not the model's: they are in the checkpoints of a run, and not in the
    weights that it leaves.
    """

    def __init__(self, model: Embedder, num_speakers: int, options: SpeakerOptions | None = None) -> None:
        super().__init__(model)
        self.options = options or SpeakerOptions()
        self.speakers = AAMSoftmax(model.dim, num_speakers, scale=self.options.scale)

    def margin(self, index: int) -> float:
        """The margin at the batch of this number, in radians."""
        options = self.options
        grown = (index + 1 - options.margin_start_batches) / max(1, options.margin_warmup_batches)
        return options.margin * min(1.0, max(0.0, grown))

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of a batch, and the share of crops whose speaker is the nearest."""
        embedding = self.embed(batch, self.options)
        loss, cosines = self.speakers(embedding, batch["speaker"], self.margin(int(batch["index"])))
        return {"loss": loss, "accuracy": (cosines.argmax(1) == batch["speaker"]).float().mean()}


def build(recipe: Recipe) -> tuple[SpeakerTask | ContrastiveTask, VoicesBatches | CriesBatches, Iterable[Batch]]:
    """Make a recipe's task, training batches and validation batches; ``RecipeError`` if they do not fit together.

    ``data.cries`` in the place of what else ``data`` holds makes it a recipe for cries of infants, and
    ``task_options.objective: contrastive`` one that asks for no names.
    """
    model = build_model(recipe)
    if not isinstance(model, Embedder):
        raise RecipeError(f"model.architecture: {recipe.model.architecture} does not embed voices")
    rate = int(model.config.sample_rate)
    num_threads = min(8, max(1, (os.cpu_count() or 2) - 1))
    contrastive = "objective" in recipe.task_options
    batches: VoicesBatches | CriesBatches
    if "cries" in recipe.data:
        cries = parse(CriesConfig, {"sample_rate": rate, **recipe.data["cries"]}, "data.cries")
        if (cries.views == 2) != contrastive:
            raise RecipeError("data.cries.views must be 2 for task_options.objective: contrastive, and 1 without")
        batches = CriesBatches(cries, seed=recipe.seed, num_threads=num_threads)
    else:
        batches = VoicesBatches(
            parse(VoicesConfig, {"sample_rate": rate, **recipe.data}, "data"), seed=recipe.seed, num_threads=num_threads
        )
    if batches.config.sample_rate != rate:
        raise RecipeError(f"data is at {batches.config.sample_rate} Hz, the model at {rate} Hz: give both the same")
    validation = parse(SpeakerValidation, recipe.validation, "validation")
    sets = [trials(name, validation.split, sample_rate=rate) for name in validation.sets]
    # What a task has beside its model is drawn from the recipe's seed, too.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        task: SpeakerTask | ContrastiveTask
        if contrastive:
            task = ContrastiveTask(model, parse(ContrastiveOptions, recipe.task_options, "task_options"))
        else:
            options = parse(SpeakerOptions, recipe.task_options, "task_options")
            task = SpeakerTask(model, batches.num_speakers, options)
    return task, batches, [{"trials": each, "id": [each.name]} for each in sets]
