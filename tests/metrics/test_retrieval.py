"""Recall and average precision of searches, against a slow reference and two libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchmetrics.functional.retrieval import retrieval_hit_rate

from auriscope.metrics.retrieval import retrieval_rates, retrieval_values


def drawn(queries: int = 30, items: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    relevant = rng.random((queries, items)) < 0.15
    relevant[:, 0] |= ~relevant.any(1)
    return rng.standard_normal((queries, items)) + relevant, relevant


def slow_average_precision(scores: np.ndarray, relevant: np.ndarray, depth: int) -> float:
    ranked = [relevant[item] for item in sorted(range(len(scores)), key=lambda item: -scores[item])][:depth]
    found, total = 0, 0.0
    for place, right in enumerate(ranked, start=1):
        if right:
            found += 1
            total += found / place
    return total / min(depth, int(relevant.sum()))


def test_as_the_reference_and_the_libraries() -> None:
    scores, relevant = drawn()
    values = retrieval_values(scores, relevant)
    for row, (own, right) in enumerate(zip(scores, relevant, strict=True)):
        assert values["map_at_10"][row] == pytest.approx(slow_average_precision(own, right, 10))
        for depth in (1, 5, 10):
            expected = retrieval_hit_rate(torch.tensor(own), torch.tensor(right), top_k=depth)
            assert values[f"recall_at_{depth}"][row] == float(expected)
    # With ten items, all of the order is looked at.
    scores, relevant = drawn(items=10)
    expected = [average_precision_score(right, own) for own, right in zip(scores, relevant, strict=True)]
    assert retrieval_values(scores, relevant)["map_at_10"].tolist() == pytest.approx(expected)


def test_of_equal_scores_the_first_comes_first() -> None:
    values = retrieval_values(np.zeros((2, 12)), np.eye(12)[[0, 11]])
    assert values["recall_at_1"].tolist() == [1.0, 0.0]
    assert values["recall_at_10"].tolist() == [1.0, 0.0]


def test_rates_are_means_with_intervals() -> None:
    scores, relevant = drawn()
    rates = retrieval_rates(scores, relevant)
    values = retrieval_values(scores, relevant)
    assert set(rates) == {"recall_at_1", "recall_at_5", "recall_at_10", "map_at_10"}
    for name, rate in rates.items():
        assert rate.mean == pytest.approx(values[name].mean())
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low <= rate.mean <= rate.high
    clustered = retrieval_rates(scores, relevant, np.arange(30) // 15)["recall_at_1"]
    assert (clustered.low, clustered.high) != (rates["recall_at_1"].low, rates["recall_at_1"].high)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="do not go with"):
        retrieval_values(np.zeros((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="not finite"):
        retrieval_values([[np.nan, 1.0]], [[1, 0]])
    with pytest.raises(ValueError, match="nothing is right for query 1"):
        retrieval_values(np.zeros((2, 2)), [[1, 0], [0, 0]])
