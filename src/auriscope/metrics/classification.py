"""How well classes are told: accuracy, balanced accuracy, F1 and average precision, with intervals. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope.metrics.opinion import Estimate

Array = NDArray[np.float64]


def accuracy(scores: Any, labels: Any) -> float:
    """The share of examples whose class has the highest score.

    ``scores`` (examples, classes) are probabilities or logits, of which the first of several equal ones counts;
    ``labels`` (examples,) the numbers of the classes. ``ValueError`` where they do not go together, or are none.

    >>> accuracy([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0, 1, 1])
    0.6666666666666666
    """
    told = _Told(scores, labels)
    return told.accuracy(np.ones(len(told.labels)))


def balanced_accuracy(scores: Any, labels: Any) -> float:
    """The mean over the classes that there are of the share of their examples that are told.

    Arguments and errors as of :func:`accuracy`. Source: Brodersen et al., "The balanced accuracy and its posterior
    distribution" (ICPR 2010); of more than two classes, their mean recall.

    >>> balanced_accuracy([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], [0, 0, 0, 1])
    0.5
    """
    told = _Told(scores, labels)
    return told.balanced_accuracy(np.ones(len(told.labels)))


def macro_f1(scores: Any, labels: Any) -> float:
    """The mean of the classes' F1, the harmonic mean of precision and recall.

    Classes that no example is of and none is taken for are left out. Arguments and errors as of :func:`accuracy`.

    >>> round(macro_f1([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], [0, 0, 1, 1]), 4)
    0.7333
    """
    told = _Told(scores, labels)
    return told.macro_f1(np.ones(len(told.labels)))


def mean_average_precision(scores: Any, truths: Any) -> float:
    """The mean over the classes of the average precision: for examples that may be of several classes at once.

    Of a class, examples are sorted by their score; the average precision is the mean, over the examples that are of the
    class, of the share of such examples among all with a score at least as high. ``scores`` and ``truths``, true where
    an example is of a class, are (examples, classes); classes that no example is of are left out. ``ValueError`` where
    they do not go together, or no example is of any class.

    >>> mean_average_precision([[0.9, 0.2], [0.8, 0.6], [0.1, 0.4]], [[1, 0], [0, 1], [1, 0]])
    0.9166666666666666
    """
    ranked = _Ranked(scores, truths)
    return ranked.mean_average_precision(np.ones(len(ranked.truths)))


def classification_rates(
    scores: Any,
    truths: Any,
    clusters: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compute the rates by name, from 0 to 1, each with its bootstrap interval.

    ``truths`` (examples, classes) is true where an example is of a class, as of :func:`mean_average_precision`. Where
    each is of one: ``accuracy``, ``balanced_accuracy`` and ``macro_f1``. Where some are of several: ``accuracy``, that
    the class with the highest score is one of them, and ``mean_average_precision``. ``clusters`` (examples,) names what
    examples share (a recording, a speaker): whole clusters are then resampled, if there are two at least, and else
    examples. Intervals are percentiles of the resamples, moved by as much as their median is off: examples that are
    drawn twice, and classes that are not drawn, shift means over classes and average precision to one side.
    """
    ranked = _Ranked(scores, truths)
    several = bool((ranked.truths.sum(1) != 1).any())
    rates: dict[str, Callable[[Array], float]]
    if several:
        hit = ranked.truths[np.arange(len(ranked.truths)), ranked.scores.argmax(1)]
        rates = {
            "accuracy": lambda weights: float(weights[hit].sum() / weights.sum()),
            "mean_average_precision": ranked.mean_average_precision,
        }
    else:
        told = _Told(scores, ranked.truths.argmax(1))
        rates = {
            "accuracy": told.accuracy,
            "balanced_accuracy": told.balanced_accuracy,
            "macro_f1": told.macro_f1,
        }
    drawn = _resampled(len(ranked.truths), clusters, num_resamples, seed)
    equal = np.ones(len(ranked.truths))
    return {name: _interval(rate(equal), rate, drawn, confidence) for name, rate in rates.items()}


class _Told:
    """Which class each example is of, and which it is taken for."""

    def __init__(self, scores: Any, labels: Any) -> None:
        numbers = _scores(scores)
        self.labels = np.asarray(labels)
        self.num_classes = numbers.shape[1]
        if self.labels.shape != numbers.shape[:1]:
            raise ValueError(f"scores of shape {numbers.shape} do not go with labels of shape {self.labels.shape}")
        if (self.labels < 0).any() or (self.labels >= self.num_classes).any():
            raise ValueError(f"a label is not one of {self.num_classes} classes")
        self.found = numbers.argmax(1)

    def accuracy(self, weights: Array) -> float:
        return float(weights[self.found == self.labels].sum() / weights.sum())

    def balanced_accuracy(self, weights: Array) -> float:
        right, there, _ = self._counts(weights)
        return float((right[there > 0] / there[there > 0]).mean())

    def macro_f1(self, weights: Array) -> float:
        right, there, taken = self._counts(weights)
        whole = there + taken
        return float((2.0 * right[whole > 0] / whole[whole > 0]).mean())

    def _counts(self, weights: Array) -> tuple[Array, Array, Array]:
        """By class: examples that are told, that there are, and that are taken for it."""
        hit = self.found == self.labels
        pairs = ((self.labels[hit], weights[hit]), (self.labels, weights), (self.found, weights))
        right, there, taken = (np.bincount(of, own, self.num_classes).astype(np.float64) for of, own in pairs)
        return right, there, taken


class _Ranked:
    """Examples in the order of their scores for each class."""

    def __init__(self, scores: Any, truths: Any) -> None:
        self.scores = _scores(scores)
        self.truths = np.asarray(truths).astype(bool)
        if self.truths.shape != self.scores.shape:
            raise ValueError(f"scores of shape {self.scores.shape} do not go with truths of shape {self.truths.shape}")
        if not self.truths.any():
            raise ValueError("no example is of any class")
        self._order = np.argsort(-self.scores, axis=0, kind="stable")
        ordered = np.take_along_axis(self.scores, self._order, 0)
        self._truths = np.take_along_axis(self.truths, self._order, 0)
        # Examples with equal scores are behind a threshold together: the last of them is where it lies.
        place = np.arange(len(ordered))[:, None]
        last = np.concatenate([ordered[1:] != ordered[:-1], np.ones((1, ordered.shape[1]), bool)])
        ends = np.where(last, place, len(ordered) - 1)
        self._ends = np.minimum.accumulate(ends[::-1], axis=0)[::-1]

    def mean_average_precision(self, weights: Array) -> float:
        own = weights[self._order]
        right = np.cumsum(np.where(self._truths, own, 0.0), axis=0)
        seen = np.cumsum(own, axis=0)
        there = right[-1]
        reached = np.take_along_axis(seen, self._ends, 0)
        precision = np.take_along_axis(right, self._ends, 0) / np.where(reached > 0, reached, 1.0)
        kept = there > 0
        summed = (np.where(self._truths, own, 0.0) * precision).sum(axis=0)
        return float((summed[kept] / there[kept]).mean())


def _scores(scores: Any) -> Array:
    numbers = np.asarray(scores, dtype=np.float64)
    if numbers.ndim != 2 or 0 in numbers.shape:
        raise ValueError(f"scores of shape {numbers.shape} are not (examples, classes)")
    if not np.isfinite(numbers).all():
        raise ValueError("a score that is not finite has no place among others")
    return numbers


def _resampled(size: int, clusters: Sequence[Any] | None, num_resamples: int, seed: int) -> list[Array]:
    """How often each example is drawn, by resample."""
    codes = np.arange(size)
    if clusters is not None:
        if len(clusters) != size:
            raise ValueError(f"{len(clusters)} clusters were given for {size} examples")
        names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
        if len(names) > 1:
            codes = np.array([names[name] for name in clusters])
    number = int(codes.max()) + 1
    if number < 2:
        return []
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(number, np.full(number, 1.0 / number), num_resamples)
    return [times[codes].astype(np.float64) for times in drawn]


def _interval(value: float, rate: Callable[[Array], float], drawn: list[Array], confidence: float) -> Estimate:
    if not drawn:
        return Estimate(value, None, None)
    tail = 50.0 * (1.0 - confidence)
    low, middle, high = np.percentile([rate(weights) for weights in drawn], [tail, 50.0, 100.0 - tail])
    return Estimate(value, max(0.0, float(low + value - middle)), min(1.0, float(high + value - middle)))
