"""Training a classifier: cross-entropy, of mixed and partly blanked sounds or images; accuracy on a set of others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.classification.classifier import Classifier, ImageClassifier, SoundClassifier
from auriscope.data.images import ImageBatches, ImagesConfig, ImageSet
from auriscope.data.labelled import LabelledBatches, LabelledConfig, LabelledSet
from auriscope.errors import CheckpointError, RecipeError
from auriscope.nn.masks import length_mask
from auriscope.pretrained.model import model_class
from auriscope.signal.features import SpecAugment
from auriscope.training.recipe import ModelRecipe, Recipe, build_model, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class ClassifierOptions(SpecAugment):
    """What a recipe may say about the loss, and about what is done to a batch before it.

    Args:
        mixup_alpha: above 0, every example is mixed with another, and its target likewise, by a share that is drawn
            from Beta(alpha, alpha) (H. Zhang et al., "mixup", arXiv 1710.09412, section 2); sounds are first made
            equally loud.
        label_smoothing: the share of every target that goes to all classes alike.
        style_probability: how often a batch of sounds changes styles: of every band of features its mean and deviation
            over time become a mix of the sound's own and another's of the batch (MixStyle, K. Zhou et al., arXiv
            2104.02008, section 2.2, for bands as in F. Schmid et al., DCASE 2022), so that a microphone's or a room's
            colour tells no class. Its shares are drawn from Beta(0.3, 0.3).
        select_by: by what the best weights are chosen: "accuracy", "balanced_accuracy", in which each class of the
            validation set counts as much as the others, or "cross_entropy".
    """

    mixup_alpha: float = 0.0
    label_smoothing: float = 0.0
    num_mel_masks: int = 0
    max_mel_width: int = 8
    num_time_masks: int = 0
    max_time_width: int = 40
    style_probability: float = 0.0
    select_by: Literal["accuracy", "balanced_accuracy", "cross_entropy"] = "accuracy"

    def __post_init__(self) -> None:
        if not self.mixup_alpha >= 0.0 or not 0.0 <= self.label_smoothing < 1.0:
            raise RecipeError("task_options: mixup_alpha must be at least 0, label_smoothing at least 0 and below 1")
        if not 0.0 <= self.style_probability <= 1.0:
            raise RecipeError(f"task_options.style_probability must lie in [0, 1], not {self.style_probability}")
        if min(self.num_mel_masks, self.max_mel_width, self.num_time_masks, self.max_time_width) < 0:
            raise RecipeError("task_options: numbers and widths of masks must not be negative")


@dataclass(frozen=True)
class ClassifierValidation:
    """On which split of the set that is trained on the weights are chosen.

    Of sounds, the first ``max_seconds`` are heard.
    """

    split: str = "valid"
    batch_size: int = 32
    max_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not self.max_seconds > 0:
            raise RecipeError("validation: batch_size must be at least 1, and max_seconds above 0")


class ClassifierTask(nn.Module):
    """Cross-entropy of the classes; accuracy of others.

    ``class_counts`` (classes,) says how many examples of each class the validation set has: the mean over that set of
    what :meth:`evaluate` gives as balanced accuracy is the mean of the classes' accuracies.
    """

    def __init__(
        self, model: Classifier, class_counts: Sequence[int], options: ClassifierOptions | None = None
    ) -> None:
        super().__init__()
        self.model, self.options = model, options or ClassifierOptions()
        counts = torch.tensor(class_counts, dtype=torch.float32)
        present = counts > 0
        weights = torch.where(present, counts.sum() / (counts.clamp_min(1.0) * present.sum()), 0.0)
        self.register_buffer("class_weights", weights, persistent=False)
        by_loss = self.options.select_by == "cross_entropy"
        self.selection_metric = self.options.select_by if by_loss else f"{self.options.select_by}_percent"
        self.higher_is_better = not by_loss

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters."""
        return {"main": self.parameters()}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of a batch, and the share of examples whose class is told."""
        label = batch["label"]
        target = F.one_hot(label, len(self.model.labels)).float()
        share, partner = self._mixing(len(label), label.device)
        if share is not None:
            target = share[:, None] * target + (1.0 - share[:, None]) * target[partner]
        logits = self._logits(batch, share, partner)
        loss = F.cross_entropy(logits, target, label_smoothing=self.options.label_smoothing)
        return {"loss": loss, "accuracy": (logits.argmax(1) == target.argmax(1)).float().mean()}

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Accuracy and balanced accuracy in per cent and cross-entropy in nats, of each example."""
        label = batch["label"]
        logits = self._logits(batch, None, None).float()
        correct = 100.0 * (logits.argmax(1) == label).float()
        return {
            "accuracy_percent": correct,
            "balanced_accuracy_percent": correct * self.class_weights[label],  # type: ignore[index]  # a buffer
            "cross_entropy": F.cross_entropy(logits, label, reduction="none"),
        }

    def _mixing(self, size: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """The share (batch,) of each example in its mix and the other's number; None where nothing is mixed."""
        alpha = self.options.mixup_alpha
        if not self.training or alpha == 0.0:
            return None, None
        share = torch.distributions.Beta(alpha, alpha).sample((size,))
        return share.to(device), torch.randperm(size).to(device)

    def _logits(self, batch: Batch, share: Tensor | None, partner: Tensor | None) -> Tensor:
        model = self.model
        if not isinstance(model, SoundClassifier):
            image = batch["image"]
            if share is not None:
                own = share[:, None, None, None]
                image = own * image + (1.0 - own) * image[partner]
            logits: Tensor = model(image)
            return logits
        waveform, lengths = batch["waveform"], batch["lengths"]
        if share is not None and partner is not None:
            waveform, lengths = mixed(waveform, lengths, share, partner)
        # What is as long as the batch needs no masks, which is faster.
        even = bool((lengths == waveform.shape[1]).all())
        frame_lengths = model.frame_lengths(lengths)
        known = None if even else frame_lengths
        # Powers and their logarithms lose what a network needs of them in sixteen bits.
        with torch.autocast(waveform.device.type, enabled=False):
            features = model.features(model.spectrogram(waveform, lengths).abs(), known)
        if self.training:
            if torch.rand(()) < self.options.style_probability:
                features = restyled(features, frame_lengths)
            features = self._blanked(features, frame_lengths)
        return model.classify_features(features, known)

    def _blanked(self, features: Tensor, frame_lengths: Tensor) -> Tensor:
        """What SpecAugment leaves of features; what it blanks is as the quietest of the sound."""
        options = self.options
        if options.num_mel_masks == options.num_time_masks == 0:
            return features
        quietest = features.amin((1, 2), keepdim=True)
        return quietest + options.blanked(features - quietest, frame_lengths)


def mixed(waveform: Tensor, lengths: Tensor, share: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Mix sounds (batch, time) with the batch's sounds of the numbers ``partner``, made as loud as they are.

    ``share`` (batch,) is that of the sound itself. Returns the mixtures and their lengths, those of the longer sound.
    """
    waveform = torch.where(length_mask(lengths, waveform.shape[1]), waveform, 0.0)
    level = (waveform.square().sum(1) / lengths.clamp_min(1)).sqrt()
    # Against silence nothing can be made louder.
    gain = torch.where((level > 0) & (level[partner] > 0), level / level[partner].clamp_min(1e-8), 1.0)
    other = (1.0 - share) * gain
    return share[:, None] * waveform + other[:, None] * waveform[partner], torch.maximum(lengths, lengths[partner])


def restyled(features: Tensor, frame_lengths: Tensor) -> Tensor:
    """Give every band of features (batch, frames, bins) in part the mean and deviation that it has in another sound.

    The statistics are of the valid frames, which the zeros behind them leave as they are.
    """
    valid = length_mask(frame_lengths, features.shape[1])[..., None]
    count = frame_lengths.clamp_min(1)[:, None, None]
    mean = (features * valid).sum(1, keepdim=True) / count
    deviation = (((features - mean) * valid).square().sum(1, keepdim=True) / count + 1e-6).sqrt()
    size = len(features)
    share = torch.distributions.Beta(0.3, 0.3).sample((size, 1, 1)).to(features.device)
    partner = torch.randperm(size).to(features.device)
    new_mean, new_deviation = (share * own + (1.0 - share) * own[partner] for own in (mean, deviation))
    return torch.where(valid, (features - mean) / deviation * new_deviation + new_mean, 0.0)


class Heard:
    """The sounds or images of a set, in batches, over and over; of sounds the first ``max_seconds``."""

    def __init__(self, entries: LabelledSet | ImageSet, validation: ClassifierValidation) -> None:
        self.entries, self.validation = entries, validation

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.entries.batches(self.validation.batch_size):
            if isinstance(self.entries, LabelledSet):
                longest = round(self.validation.max_seconds * self.entries.sample_rate)
                batch["waveform"] = batch["waveform"][:, :longest]
                batch["lengths"] = batch["lengths"].clamp_max(longest)
            yield batch


def build(recipe: Recipe) -> tuple[ClassifierTask, LabelledBatches | ImageBatches, Iterable[Batch]]:
    """Make a recipe's task, training batches and validation batches; ``RecipeError`` if they do not fit together.

    The classes are those of the data. ``data`` is a :class:`~auriscope.data.labelled.LabelledConfig`, or, of a
    classifier of images, an :class:`~auriscope.data.images.ImagesConfig`.
    """
    validation = parse(ClassifierValidation, recipe.validation, "validation")
    options = parse(ClassifierOptions, recipe.task_options, "task_options")
    data = _data(recipe)
    num_threads = min(8, max(1, (os.cpu_count() or 2) - 1))
    batches: LabelledBatches | ImageBatches
    if isinstance(data, ImagesConfig):
        batches = ImageBatches(data, seed=recipe.seed, num_threads=num_threads)
    else:
        batches = LabelledBatches(data, seed=recipe.seed, num_threads=num_threads)
    entries = _entries(data, validation.split)
    model = build_model(_with_labels(recipe, batches.labels))
    if isinstance(entries, ImageSet):
        _require_size(model, entries)
    if entries.labels != model.labels:
        raise RecipeError(f"data: the split {validation.split!r} has other classes than those that are trained on")
    counts = torch.bincount(torch.tensor(entries.numbers), minlength=len(model.labels)).tolist()
    return ClassifierTask(model, counts, options), batches, Heard(entries, validation)


def untrained(recipe: Recipe) -> Classifier:
    """Make a recipe's model with the classes of its data, as :func:`build` does."""
    validation = parse(ClassifierValidation, recipe.validation, "validation")
    model: Classifier = build_model(_with_labels(recipe, _entries(_data(recipe), validation.split).labels))
    return model


def _data(recipe: Recipe) -> ImagesConfig | LabelledConfig:
    """What the recipe's model learns from; ``RecipeError`` if the model is no classifier, or hears at another rate."""
    try:
        architecture = model_class(recipe.model.architecture)
    except CheckpointError as error:
        raise RecipeError(f"model.architecture: {error}") from error
    if issubclass(architecture, ImageClassifier):
        return parse(ImagesConfig, recipe.data, "data")
    if not issubclass(architecture, SoundClassifier):
        raise RecipeError(f"model.architecture: {recipe.model.architecture} does not classify")
    rate = parse(architecture.Config, recipe.model.config, "model.config").sample_rate
    sounds = parse(LabelledConfig, {"sample_rate": rate, **recipe.data}, "data")
    if sounds.sample_rate != rate:
        raise RecipeError(f"data is at {sounds.sample_rate} Hz, the model at {rate} Hz: give both the same")
    return sounds


def _entries(data: ImagesConfig | LabelledConfig, split: str) -> LabelledSet | ImageSet:
    """A split of what is learnt from."""
    name = data.prepared or data.set
    if isinstance(data, ImagesConfig):
        return ImageSet(name, split)
    return LabelledSet(name, split, sample_rate=data.sample_rate, fold=data.fold)


def _with_labels(recipe: Recipe, labels: tuple[str, ...]) -> Recipe:
    """The recipe whose model has the classes of the data."""
    wanted = recipe.model.config.get("labels")
    if wanted is not None and tuple(wanted) != labels:
        raise RecipeError(f"model.config.labels: the data's classes are {', '.join(labels)}: leave labels out")
    if len(labels) < 2:
        raise RecipeError(f"data: there is one class only, {', '.join(labels)}: there is nothing to tell apart")
    config: dict[str, Any] = {**recipe.model.config, "labels": labels}
    return dataclasses.replace(recipe, model=ModelRecipe(recipe.model.architecture, config))


def _require_size(model: Classifier, entries: ImageSet) -> None:
    """Raise ``RecipeError`` unless the images are as large as the model's."""
    config = model.config
    height, width = entries.images.shape[1:]
    if (config.channels, config.height, config.width) != (1, height, width):
        raise RecipeError(
            f"data: the images have 1 channel and {height} x {width} pixels; say so in model.config: channels, height "
            "and width"
        )
