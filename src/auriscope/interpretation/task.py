"""Training an interpreter: its own losses on what a frozen classifier makes of the data; fidelity and faithfulness."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from auriscope.data.images import ImageBatches, ImagesConfig, ImageSet, as_image
from auriscope.data.items import evenly_spread
from auriscope.data.labelled import LabelledBatches, LabelledConfig, LabelledSet
from auriscope.data.transcribed import padded
from auriscope.errors import AuriscopeError, CheckpointError, RecipeError
from auriscope.interpretation.interpreter import Seen, TrainedInterpreter, facts, require_maps
from auriscope.interpretation.l2i import L2I
from auriscope.metrics.interpretation import faithfulness, input_fidelity
from auriscope.nn.maps import HiddenMaps
from auriscope.nn.masks import length_mask
from auriscope.pretrained.addresses import load
from auriscope.pretrained.model import model_class
from auriscope.training.recipe import ModelRecipe, Recipe, build_model, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class InterpretationOptions:
    """What a recipe may say about a training.

    Args:
        select_by: by which figure of the validation the weights are chosen, the higher the better; "merit" is the mean
            of input fidelity and faithfulness.
        first_batches: how many batches an interpreter may look at before training, such as for a dictionary.
        nmf: the address of a fitted ``separation/nmf`` with the STFT of the classifier, whose spectra are L2I's
            dictionary in the place of one of the first batches.
        mixed_share: the share of examples into which another of the batch is mixed, if the classifier takes it for
            another class; what is to be explained is then still the class of the example without it.
        mixed_db: how loud sounds are beside what is mixed into them, drawn between two levels in dB; images are added.
    """

    select_by: Literal["merit", "input_fidelity", "faithfulness"] = "merit"
    first_batches: int = 8
    nmf: str | None = None
    mixed_share: float = 0.0
    mixed_db: tuple[float, float] = (-5.0, 5.0)

    def __post_init__(self) -> None:
        if self.first_batches < 1:
            raise RecipeError(f"task_options.first_batches must be at least 1, not {self.first_batches}")
        if not 0.0 <= self.mixed_share <= 1.0 or self.mixed_db[0] > self.mixed_db[1]:
            raise RecipeError("task_options: mixed_share must lie between 0 and 1, and mixed_db be from low to high")


@dataclass(frozen=True)
class InterpretationValidation:
    """What the weights are chosen on: at most ``max_items``, evenly spread over a split; None: all of it.

    Of sounds, the first ``max_seconds`` are heard.
    """

    split: str = "valid"
    batch_size: int = 32
    max_items: int | None = 512
    max_seconds: float = 5.0

    def __post_init__(self) -> None:
        if min(self.batch_size, 1 if self.max_items is None else self.max_items) < 1 or not self.max_seconds > 0:
            raise RecipeError("validation: batch_size and max_items must be at least 1, and max_seconds above 0")


class InterpretationTask(nn.Module):
    """An interpreter that learns from what a classifier makes of sounds or images.

    The classifier is frozen and no part of the task: neither a run's checkpoints nor its weights hold it.
    """

    higher_is_better = True

    batches_seen: Tensor

    def __init__(
        self, model: TrainedInterpreter, classifier: HiddenMaps, options: InterpretationOptions | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.options = options or InterpretationOptions()
        self.selection_metric = self.options.select_by
        # In a tuple, so that torch does not take it for a part of the task.
        self._frozen = (classifier,)
        if isinstance(classifier, nn.Module):
            classifier.eval().requires_grad_(False)
        # In the state, so that a resumed run knows which losses have begun.
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))

    @property
    def classifier(self) -> HiddenMaps:
        """The classifier, where the task computes."""
        classifier: Any = self._frozen[0]
        if isinstance(classifier, nn.Module):
            classifier.to(self.batches_seen.device)
        found: HiddenMaps = classifier
        return found

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters."""
        return {"main": self.model.parameters()}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The losses of a batch."""
        seen = self._mixed(batch, see(self.classifier, classified(self.classifier, batch)))
        losses = self.model.losses(seen, int(self.batches_seen))
        if self.training:
            self.batches_seen += 1
        return losses

    def _mixed(self, batch: Batch, seen: Seen) -> Seen:
        """The same examples, something else being mixed into a share of them."""
        options, number = self.options, len(seen.x)
        if not self.training or options.mixed_share == 0.0:
            return seen
        partner = torch.randperm(number).to(seen.x.device)
        level_db = torch.empty(number).uniform_(*options.mixed_db).to(seen.x.device)
        chosen = (torch.rand(number) < options.mixed_share).to(seen.x.device) & (seen.label != seen.label[partner])
        classifier = self.classifier
        heard = see(classifier, classified(classifier, with_others(batch, partner, level_db, chosen)))
        return dataclasses.replace(heard, label=seen.label, source=seen.x)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Input fidelity, faithfulness and their mean of each example, and how much of the input the mask keeps."""
        classifier = self.classifier
        x = classified(classifier, batch)
        found = self.model.interpret(classifier, x)
        inside = found.mask * x
        logits, of_mask, without = classifier.classify_maps(torch.cat((x, inside, x - inside))).float().chunk(3)
        fidelity = input_fidelity(of_mask, logits)
        faith = faithfulness(logits.softmax(1), without.softmax(1), found.label)
        return {
            "merit": (fidelity + faith) / 2.0,
            "input_fidelity": fidelity,
            "faithfulness": faith,
            "kept": inside.flatten(1).sum(1) / x.flatten(1).sum(1).clamp_min(1e-8),
        }


def classified(classifier: Any, batch: Batch) -> Tensor:
    """What the classifier sees of a batch of sounds or images, (batch, channels, height, width)."""
    if "image" in batch:
        image: Tensor = batch["image"]
        return image
    waveform = batch["waveform"]
    with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
        magnitude: Tensor = classifier.spectrogram(waveform, batch["lengths"]).abs()
    return magnitude[:, None]


def see(classifier: HiddenMaps, x: Tensor) -> Seen:
    """What a classifier makes of a batch (batch, channels, height, width), without a graph for gradients."""
    with torch.no_grad():
        maps, logits = classifier.hidden_and_logits(x)
    return Seen(x, maps, logits, logits.argmax(1), x, classifier)


def with_others(batch: Batch, partner: Tensor, level_db: Tensor, chosen: Tensor) -> Batch:
    """Mix others of a batch into it, where it is ``chosen`` (batch,): those of the numbers ``partner`` (batch,).

    Images are added, up to white. A sound is ``level_db`` (batch,) louder than what is mixed into it; silence stays.
    """
    if "image" in batch:
        image = batch["image"]
        return {"image": (image + chosen[:, None, None, None] * image[partner]).clamp(max=1.0)}
    waveform, lengths = batch["waveform"], batch["lengths"]
    waveform = torch.where(length_mask(lengths, waveform.shape[1]), waveform, 0.0)
    size = (waveform.square().sum(1) / lengths.clamp_min(1)).sqrt()
    gain = torch.where(chosen, size / size[partner].clamp_min(1e-8) * 10.0 ** (-level_db / 20.0), 0.0)
    gain = torch.where(size[partner] > 0, gain, 0.0)
    lengths = torch.where(chosen, torch.maximum(lengths, lengths[partner]), lengths)
    return {"waveform": waveform + gain[:, None] * waveform[partner], "lengths": lengths}


class Heard:
    """The sounds or images that are validated on, in batches, over and over."""

    def __init__(self, entries: LabelledSet | ImageSet, validation: InterpretationValidation) -> None:
        self.entries, self.validation = entries, validation

    def __iter__(self) -> Iterator[Batch]:
        size = self.validation.batch_size
        chosen = evenly_spread(len(self.entries), self.validation.max_items)
        for first in range(0, len(chosen), size):
            yield self._batch(chosen[first : first + size])

    def _batch(self, numbers: list[int]) -> Batch:
        entries = self.entries
        if isinstance(entries, ImageSet):
            return {"image": as_image(entries.images[numbers]), "id": [entries.ids[number] for number in numbers]}
        longest = round(self.validation.max_seconds * entries.sample_rate)
        sounds = [entries[number] for number in numbers]
        return padded([sound.waveform[:longest] for sound in sounds]) | {"id": [sound.id for sound in sounds]}


def build(
    recipe: Recipe,
) -> tuple[InterpretationTask, LabelledBatches | ImageBatches, Iterable[Batch]]:
    """Make a recipe's task, training batches and validation batches; ``RecipeError`` if they do not fit together.

    ``model.config.classifier`` is the classifier's address. ``data`` is a
    :class:`~auriscope.data.labelled.LabelledConfig` or, where the classifier sees images, an
    :class:`~auriscope.data.images.ImagesConfig`.
    """
    options = parse(InterpretationOptions, recipe.task_options, "task_options")
    validation = parse(InterpretationValidation, recipe.validation, "validation")
    recipe, classifier = with_classifier(recipe)
    rate = facts(classifier)["sample_rate"]
    num_threads = min(8, max(1, (os.cpu_count() or 2) - 1))
    batches: LabelledBatches | ImageBatches
    entries: LabelledSet | ImageSet
    if rate:
        sounds = parse(LabelledConfig, {"sample_rate": rate, **recipe.data}, "data")
        if sounds.sample_rate != rate:
            raise RecipeError(f"data is at {sounds.sample_rate} Hz, the classifier at {rate} Hz: give both the same")
        batches = LabelledBatches(sounds, seed=recipe.seed, num_threads=num_threads)
        name = sounds.prepared or sounds.set
        entries = LabelledSet(name, validation.split, sample_rate=rate, fold=sounds.fold)
    else:
        images = parse(ImagesConfig, recipe.data, "data")
        batches = ImageBatches(images, seed=recipe.seed, num_threads=num_threads)
        entries = ImageSet(images.prepared or images.set, validation.split)
    model: TrainedInterpreter = build_model(recipe)
    if options.nmf is None:
        first = (batches.batch(index) for index in range(options.first_batches))
        model.begin(see(classifier, classified(classifier, batch)) for batch in first)
    else:
        hand_in_spectra(model, options.nmf)
    return InterpretationTask(model, classifier, options), batches, Heard(entries, validation)


def untrained(recipe: Recipe) -> TrainedInterpreter:
    """Make a recipe's model for its classifier, as :func:`build` does, but for what that finds in the data."""
    model: TrainedInterpreter = build_model(with_classifier(recipe)[0])
    return model


def with_classifier(recipe: Recipe) -> tuple[Recipe, HiddenMaps]:
    """The recipe whose model's configuration tells what there is to know of its classifier, and that classifier."""
    try:
        architecture = model_class(recipe.model.architecture)
    except CheckpointError as error:
        raise RecipeError(f"model.architecture: {error}") from error
    if not issubclass(architecture, TrainedInterpreter):
        raise RecipeError(f"model.architecture: {recipe.model.architecture} does not interpret")
    address = recipe.model.config.get("classifier")
    if not address:
        raise RecipeError("model.config.classifier: give the address of the classifier to explain")
    loaded = _loaded(str(address), "model.config.classifier")
    try:
        classifier = require_maps(loaded, architecture.method)
    except AuriscopeError as error:
        raise RecipeError(f"model.config.classifier: {error}") from error
    config = {**recipe.model.config, **facts(classifier, architecture.Config)}
    return dataclasses.replace(recipe, model=ModelRecipe(recipe.model.architecture, config)), classifier


def hand_in_spectra(model: TrainedInterpreter, address: str) -> None:
    """Give L2I the spectra of all sources of the fitted NMF at ``address``; ``RecipeError`` if they do not fit."""
    if not isinstance(model, L2I):
        raise RecipeError(f"task_options.nmf: {model.method} has no dictionary of spectra; leave it out")
    fitted: Any = _loaded(address, "task_options.nmf")
    if not hasattr(fitted, "dictionaries"):
        raise RecipeError(f"task_options.nmf: {address} is a {fitted.name} and has no dictionaries of spectra")
    try:
        model.hand_in(fitted.dictionaries.movedim(0, 1).flatten(1))
    except AuriscopeError as error:
        raise RecipeError(f"task_options.nmf: {error}") from error


def _loaded(address: str, key: str) -> Any:
    """The model at an address, or ``RecipeError`` that begins with the recipe's ``key``."""
    try:
        return load(address)
    except CheckpointError as error:
        raise RecipeError(f"{key}: {error}") from error
