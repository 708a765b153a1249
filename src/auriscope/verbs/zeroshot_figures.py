"""Figures of zero-shot classification: how many sounds of a set are told by the names of its classes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.zeroshot import TEMPLATES, ZeroShotClassifier
from auriscope.data.captioned import PHRASES
from auriscope.data.labelled import LabelledSet
from auriscope.data.prepared import is_prepared
from auriscope.data.prepared_labelled import read_labelled
from auriscope.errors import CorpusError
from auriscope.metrics.classification import classification_rates
from auriscope.verbs.classification_figures import (
    BATCH_SIZE,
    MIXED,
    Interval,
    classification_figures,
    in_percent,
    scored,
)

EVERY_FOLD = 0


def zero_shot_figures(
    model: CrossModal,
    name: str,
    split: str,
    on_progress: Callable[[float], None],
    *,
    fold: int | None = None,
    templates: Sequence[str] = TEMPLATES,
) -> tuple[int, dict[str, Interval]]:
    """Tell how many sounds a set holds, and the figures of :mod:`auriscope.verbs.classification_figures` of a model.

    ``templates`` are the prompts (:class:`~auriscope.crossmodal.zeroshot.ZeroShotClassifier`). ``fold`` 0 goes through
    all folds of a prepared corpus: all their sounds count, and ``accuracy_fold_N_percent`` is that of each.
    """
    rate = int(model.config.sample_rate)
    if fold != EVERY_FOLD:
        found = LabelledSet(name.removesuffix(MIXED), split, sample_rate=rate, fold=fold)
        classifier = ZeroShotClassifier(model, found.labels, templates, PHRASES)
        return classification_figures(classifier, name, split, on_progress, fold=fold)
    folds = read_labelled(name).folds if is_prepared(name) else ()
    if not folds:
        raise CorpusError(f"{name}: has no folds; leave --fold out")
    scores, truths, accuracies = [], [], {}
    groups: list[str] = []
    for place, number in enumerate(folds):
        part = LabelledSet(name, "test", sample_rate=rate, fold=number)
        classifier = ZeroShotClassifier(model, part.labels, templates, PHRASES)
        own = scored(classifier, part, BATCH_SIZE, name, partial(_part_done, on_progress, place, len(folds)))
        accuracies[f"accuracy_fold_{number}"] = classification_rates(*own, part.groups)["accuracy"]
        scores.append(own[0])
        truths.append(own[1])
        groups += part.groups
    rates = classification_rates(np.concatenate(scores), np.concatenate(truths), groups)
    return len(groups), in_percent({**rates, **accuracies})


def _part_done(on_progress: Callable[[float], None], place: int, number: int, done: float) -> None:
    on_progress((place + done) / number)
