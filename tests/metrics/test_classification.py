"""Rates of classification: exact on small tables, and equal to scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from auriscope.metrics.classification import (
    accuracy,
    balanced_accuracy,
    classification_rates,
    macro_f1,
    mean_average_precision,
)

sklearn = pytest.importorskip("sklearn.metrics")


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    """Scores (200, 6) with many equal ones, and labels of which the last class has none."""
    rng = np.random.default_rng(3)
    labels = rng.choice(5, 200, p=[0.6, 0.2, 0.1, 0.06, 0.04])
    scores = rng.random((200, 6))
    scores[np.arange(200), labels] += 0.35
    return np.round(scores, 2), labels


def test_equal_to_an_independent_library(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    found = scores.argmax(1)
    assert accuracy(scores, labels) == pytest.approx(sklearn.accuracy_score(labels, found))
    present = np.bincount(labels, minlength=6) > 0
    recalls = sklearn.recall_score(labels, found, labels=np.flatnonzero(present), average=None)
    assert balanced_accuracy(scores, labels) == pytest.approx(recalls.mean())
    assert macro_f1(scores, labels) == pytest.approx(sklearn.f1_score(labels, found, average="macro"))


def test_average_precision_equals_an_independent_library(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    truths = np.eye(6, dtype=bool)[labels]
    truths[::3, 1] = True
    expected = [sklearn.average_precision_score(truths[:, each], scores[:, each]) for each in range(5)]
    assert mean_average_precision(scores, truths) == pytest.approx(np.mean(expected))


def test_scores_that_are_all_equal_tell_nothing() -> None:
    truths = np.zeros((10, 2), bool)
    truths[:3, 0] = truths[3:, 1] = True
    # The precision of taking all, whichever comes first in the list.
    assert mean_average_precision(np.ones((10, 2)), truths) == pytest.approx((0.3 + 0.7) / 2)


def test_always_the_common_class_is_not_balanced() -> None:
    scores = np.tile([1.0, 0.0, 0.0], (10, 1))
    labels = [0] * 8 + [1, 2]
    assert accuracy(scores, labels) == 0.8
    assert balanced_accuracy(scores, labels) == pytest.approx(1 / 3)
    assert macro_f1(scores, labels) == pytest.approx((16 / 18) / 3)


def test_intervals_hold_the_value_and_are_wider_over_clusters(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    truths = np.eye(6, dtype=bool)[labels]
    alone = classification_rates(scores, truths)
    assert list(alone) == ["accuracy", "balanced_accuracy", "macro_f1"]
    for rate in alone.values():
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low < rate.value < rate.high
    # Twenty copies of ten examples: no more is known than of ten.
    copies = np.tile(np.arange(10), 20)
    together = classification_rates(scores[copies], truths[copies], copies.tolist())["accuracy"]
    apart = classification_rates(scores[copies], truths[copies])["accuracy"]
    assert together.value == apart.value
    assert together.high - together.low > 2 * (apart.high - apart.low)  # type: ignore[operator]
    # One recording alone says nothing of others: its examples are resampled.
    assert classification_rates(scores, truths, ["one"] * 200) == alone


def test_several_classes_at_once() -> None:
    scores = [[0.9, 0.3, 0.1], [0.2, 0.7, 0.6], [0.3, 0.4, 0.5]]
    truths = [[1, 1, 0], [0, 1, 1], [1, 0, 0]]
    rates = classification_rates(scores, truths)
    assert list(rates) == ["accuracy", "mean_average_precision"]
    assert rates["accuracy"].value == pytest.approx(2 / 3)
    # By class: 1 and 2 of 3; 1 and 2/3 ... of the examples in their order.
    assert rates["mean_average_precision"].value == pytest.approx(((1 + 1) / 2 + (1 + 2 / 3) / 2 + 1) / 3)


@pytest.mark.parametrize(
    ("scores", "labels", "line"),
    [
        ([0.1, 0.9], [1], r"not \(examples, classes\)"),
        ([[0.1, 0.9]], [2], "not one of 2 classes"),
        ([[0.1, 0.9]], [0, 1], "do not go with labels"),
        ([[float("nan"), 0.9]], [0], "not finite"),
    ],
)
def test_what_does_not_go_together_is_refused(scores: object, labels: object, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        accuracy(scores, labels)
    with pytest.raises(ValueError, match="no example is of any class"):
        mean_average_precision([[0.1, 0.9]], [[0, 0]])


def test_the_interval_of_average_precision_holds_it_even_where_the_scores_say_nothing() -> None:
    rng = np.random.default_rng(0)
    truths = np.eye(20, dtype=bool)[rng.integers(20, size=100)] | np.eye(20, dtype=bool)[rng.integers(20, size=100)]
    rate = classification_rates(rng.random((100, 20)), truths)["mean_average_precision"]
    assert rate.low < rate.value < rate.high
