"""Figures of classifiers: how many sounds or images of a set they tell, with intervals over recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.classification.classifier import Classifier, ImageClassifier
from auriscope.crossmodal.zeroshot import ZeroShotClassifier
from auriscope.data.images import ImageSet
from auriscope.data.labelled import LabelledSet
from auriscope.data.labelled_mixtures import LabelledMixtureSet
from auriscope.errors import AuriscopeError
from auriscope.metrics.classification import classification_rates
from auriscope.metrics.opinion import Estimate

Interval = tuple[float | None, float | None, float | None]
MIXED = "-mixtures"
"""Ends the name of a set whose sounds are each mixed with one of another class, both equally loud."""
BATCH_SIZE = 16
"""Sounds in a batch."""
_IMAGE_BATCH_SIZE = 256


def classification_figures(
    model: Classifier | ZeroShotClassifier,
    name: str,
    split: str,
    on_progress: Callable[[float], None],
    *,
    fold: int | None = None,
) -> tuple[int, dict[str, Interval]]:
    """Classify a set, and tell how many sounds or images it holds and the figures, in per cent with 95 % intervals.

    ``accuracy_percent``; ``balanced_accuracy_percent``, in which every class counts alike; ``macro_f1_percent``. Where
    the set tells which sounds are of one recording or speaker, and there are two at least, whole recordings are
    resampled, else sounds or images. Of ``NAME-mixtures``, whose sounds are of two classes each: ``accuracy_percent``,
    that the likeliest class is one of the two, and ``mean_average_precision_percent``.

    ``name`` is a set (:mod:`auriscope.data.labelled_sets`, :mod:`auriscope.data.images`) or a prepared folder, ``fold``
    the one that tests, where it has folds. ``AuriscopeError`` where the set is of classes that the model does not know.
    """
    found: LabelledSet | LabelledMixtureSet | ImageSet
    if isinstance(model, ImageClassifier):
        if fold is not None:
            raise AuriscopeError(f"{name}: images have no folds; leave --fold out")
        found, groups, size = ImageSet(name, split), None, _IMAGE_BATCH_SIZE
    else:
        rate = int(model.config.sample_rate)
        if name.endswith(MIXED):
            found = LabelledMixtureSet(name.removesuffix(MIXED), split, sample_rate=rate, fold=fold)
            groups = None
        else:
            found = LabelledSet(name, split, sample_rate=rate, fold=fold)
            groups = found.groups
        size = BATCH_SIZE
    scores, truths = scored(model, found, size, name, on_progress)
    return len(found), in_percent(classification_rates(scores, truths, groups))


def scored(
    model: Classifier | ZeroShotClassifier,
    found: LabelledSet | LabelledMixtureSet | ImageSet,
    batch_size: int,
    name: str,
    on_progress: Callable[[float], None],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probabilities of a set's examples, and which of the classes each is of, both (examples, classes)."""
    columns = known_columns(model, found.labels, name)
    scores, classes = [], []
    for probabilities, truth in _classified(model, found.batches(batch_size), len(found), on_progress):
        scores.append(probabilities.double().numpy())
        classes.append(truth)
    # The classes of the set, at their places among the model's.
    truths = np.zeros((len(found), len(model.labels)), dtype=bool)
    for row, own in enumerate(np.concatenate(classes)):
        truths[row, [columns[each] for each in own]] = True
    return np.concatenate(scores), truths


def in_percent(rates: Mapping[str, Estimate]) -> dict[str, Interval]:
    """Rates from 0 to 1 as figures in per cent."""
    return {
        f"{rate}_percent": (_percent(value.value), _percent(value.low), _percent(value.high))
        for rate, value in rates.items()
    }


def known_columns(model: Classifier | ZeroShotClassifier, labels: Sequence[str], name: str) -> list[int]:
    """The places of a set's classes among the model's; ``AuriscopeError`` names one that the model does not know."""
    places = {label: place for place, label in enumerate(model.labels)}
    for label in labels:
        if label not in places:
            raise AuriscopeError(f"{name}: has the class {label!r}, which the model does not know; choose another set")
    return [places[label] for label in labels]


@torch.inference_mode()
def _classified(
    model: Classifier | ZeroShotClassifier,
    batches: Iterator[Mapping[str, Any]],
    number: int,
    on_progress: Callable[[float], None],
) -> Iterator[tuple[Tensor, np.ndarray[Any, Any]]]:
    """Probabilities (batch, classes), and the classes (batch, one or two) as the set numbers them."""
    done = 0
    for batch in batches:
        if "image" in batch:
            probabilities = model.predict_proba(batch["image"].to(model.device))
        else:
            probabilities = model.predict_proba(batch["waveform"].to(model.device), batch["lengths"].to(model.device))
        own = [batch["label"], batch["other"]] if "other" in batch else [batch["label"]]
        yield probabilities.cpu(), torch.stack(own, 1).numpy()
        done += len(probabilities)
        on_progress(done / number)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100.0 * value
