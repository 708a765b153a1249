"""How well searches find: recall at the first few results, and average precision. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auriscope.metrics.accumulate import Summary, summarize

Array = NDArray[np.float64]

DEPTHS = (1, 5, 10)
"""Among how many first results something right is looked for."""
MAP_DEPTH = 10


def retrieval_values(scores: Any, relevant: Any) -> dict[str, Array]:
    """Tell, for every query, how well it was answered: by name, (queries,) from 0 to 1.

    ``recall_at_1``, ``recall_at_5`` and ``recall_at_10``: 1 where one of so many first results is right, as the
    literature on captions counts it. ``map_at_10``: the precision at each of the first ten results that is right,
    summed, over the number of right ones, ten at most (average precision at 10; DCASE 2022, task 6b).

    ``scores`` (queries, items) are higher for better results; of equal ones the first item comes first. ``relevant``
    (queries, items) is true for what is right. ``ValueError`` where they do not go together, a score is not finite, or
    nothing is right for some query.

    >>> values = retrieval_values([[0.9, 0.8, 0.1], [0.1, 0.2, 0.3]], [[0, 1, 0], [1, 0, 1]])
    >>> {name: each.tolist() for name, each in values.items() if name in ("recall_at_1", "map_at_10")}
    {'recall_at_1': [0.0, 1.0], 'map_at_10': [0.5, 0.8333333333333333]}
    """
    numbers, right = np.asarray(scores, dtype=np.float64), np.asarray(relevant).astype(bool)
    if numbers.ndim != 2 or numbers.shape != right.shape or 0 in numbers.shape:
        raise ValueError(f"scores of shape {numbers.shape} do not go with what is right, of shape {right.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError("a score that is not finite has no place among others")
    if not right.any(1).all():
        raise ValueError(f"nothing is right for query {int(np.argmin(right.any(1)))}")
    order = np.argsort(-numbers, axis=1, kind="stable")[:, : max(*DEPTHS, MAP_DEPTH)]
    hits = np.take_along_axis(right, order, 1)
    values: dict[str, Array] = {
        f"recall_at_{depth}": np.asarray(hits[:, :depth].any(1), dtype=np.float64) for depth in DEPTHS
    }
    first = hits[:, :MAP_DEPTH]
    precision: Array = first.cumsum(1) / np.arange(1, first.shape[1] + 1)
    values[f"map_at_{MAP_DEPTH}"] = np.asarray((precision * first).sum(1) / right.sum(1).clip(max=MAP_DEPTH))
    return values


def retrieval_rates(scores: Any, relevant: Any, clusters: Sequence[Any] | None = None) -> dict[str, Summary]:
    """Give the means of :func:`retrieval_values` over the queries, with their bootstrap intervals.

    ``clusters`` (queries,) names what queries share (a recording): whole clusters are then resampled.
    """
    return {name: summarize(values, clusters) for name, values in retrieval_values(scores, relevant).items()}
