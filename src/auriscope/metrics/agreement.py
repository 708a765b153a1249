"""How far raters agree: Krippendorff's alpha and intraclass correlations, for complete and incomplete votes.

Raters and targets (what is rated) are whole numbers from 0, each rater's vote on a target once. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from auriscope.metrics.opinion import Estimate

Array = NDArray[np.float64]


def vote_counts(scores: Any, targets: Any, num_levels: int = 5) -> Array:
    """Count by target how often each score from 1 to ``num_levels`` was given: (targets, levels)."""
    places = np.asarray(targets)
    counts = np.zeros((int(places.max(initial=-1)) + 1, num_levels))
    np.add.at(counts, (places, np.asarray(scores).astype(np.int64) - 1), 1.0)
    return counts


def krippendorff_alpha(counts: Any, level: Literal["ordinal", "interval", "nominal"] = "ordinal") -> float | None:
    """Give Krippendorff's alpha: 1 when raters agree, 0 when they agree as by chance, below when they differ more.

    ``counts`` (targets, levels) as of :func:`vote_counts`; targets with fewer than two votes do not count. None without
    any others, or if all votes are the same: then there is nothing that chance could have mixed up. Source:
    Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section D; its metrics in section E.

    >>> round(krippendorff_alpha([[2, 0, 0], [0, 2, 0], [0, 1, 1]]), 4)
    0.7778
    """
    return _alpha(_coincidences(counts).sum(axis=0)[None], level)[0]


def krippendorff_interval(
    counts: Any, clusters: Any, *, num_resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """Give alpha (ordinal) with its percentile bootstrap interval, where targets of one cluster come together.

    ``clusters`` (targets,) names the mixture of each target.
    """
    table = np.asarray(counts, dtype=np.float64)
    alpha = krippendorff_alpha(table)
    mixtures = np.unique(np.asarray(clusters), return_inverse=True)[1]
    num_mixtures = int(mixtures.max(initial=-1)) + 1
    if alpha is None or num_mixtures < 2:
        return Estimate(alpha)
    parts = np.zeros((num_mixtures, table.shape[1], table.shape[1]))
    np.add.at(parts, mixtures, _coincidences(table))
    generator = np.random.default_rng([seed, 11])
    drawn = generator.multinomial(num_mixtures, np.full(num_mixtures, 1 / num_mixtures), num_resamples)
    made = [value for value in _alpha(np.tensordot(drawn, parts, axes=1), "ordinal") if value is not None]
    low, high = np.quantile(made, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(alpha, float(low), float(high))


def _coincidences(counts: Any) -> Array:
    """Give by target how often two of its votes are a pair of scores: (targets, levels, levels)."""
    table = np.asarray(counts, dtype=np.float64)
    votes = table.sum(axis=1)
    pairs = table[:, :, None] * table[:, None, :] - table[:, :, None] * np.eye(table.shape[1])
    return np.asarray(pairs / np.maximum(votes - 1, 1)[:, None, None], dtype=np.float64)


def _alpha(coincidences: Array, level: str) -> list[float | None]:
    found: list[float | None] = []
    for observed in coincidences:
        totals = observed.sum(axis=0)
        places = np.arange(len(totals))
        if level == "ordinal":
            # The number of votes between two scores, half of those on the scores themselves.
            middles = np.cumsum(totals) - totals / 2
            distance = (middles[:, None] - middles[None, :]) ** 2
        elif level == "interval":
            distance = (places[:, None] - places[None, :]).astype(np.float64) ** 2
        else:
            distance = (places[:, None] != places[None, :]).astype(np.float64)
        expected = float((np.outer(totals, totals) * distance).sum())
        if expected <= 0:
            found.append(None)
        else:
            found.append(float(1 - (totals.sum() - 1) * (observed * distance).sum() / expected))
    return found


@dataclass(frozen=True)
class IntraclassCorrelation:
    """ICC(2,1), of a single vote (``single``), and ICC(2,k), of the mean of k (``average``).

    ``votes_per_target`` is k: the number of raters, or the harmonic mean of votes where not everybody rated everything.
    ``is_complete`` says which. The variances are those of targets, of raters and of the rest; estimates of a variance
    near zero may be negative.
    """

    single: float | None
    average: float | None
    votes_per_target: float
    num_targets: int
    num_raters: int
    is_complete: bool
    target_variance: float = float("nan")
    rater_variance: float = float("nan")
    rest_variance: float = float("nan")


def intraclass_correlation(scores: Any, raters: Any, targets: Any) -> IntraclassCorrelation:
    """Give the share of the variance of votes that is due to what was rated, when raters are a sample (absolute
    agreement): Shrout and Fleiss, "Intraclass correlations" (1979), ICC(2,1) and ICC(2,k).

    For complete votes these are the formulas of the paper. For incomplete ones the three variances come from three sums
    of squares whose expectations are known whoever rated what: about the raters' means, about the targets' means and
    about the mean of all (Gao and Owen, "Efficient moment calculations for variance components in large unbalanced
    crossed random effects models", 2017); with complete votes they are those of the analysis of variance.

    The coefficients are None with fewer than two raters or targets, if the votes do not overlap enough to tell raters
    from targets, or if all votes are the same.
    """
    numbers = np.asarray(scores, dtype=np.float64)
    of_rater = np.unique(np.asarray(raters), return_inverse=True)[1]
    of_target = np.unique(np.asarray(targets), return_inverse=True)[1]
    by_rater = np.bincount(of_rater).astype(np.float64)
    by_target = np.bincount(of_target).astype(np.float64)
    total = float(len(numbers))
    num_raters, num_targets = len(by_rater), len(by_target)
    k = float(num_targets / (1 / by_target).sum()) if num_targets else 0.0
    is_complete = bool(num_targets and total == num_raters * num_targets)
    nothing = IntraclassCorrelation(None, None, k, num_targets, num_raters, is_complete)
    if num_raters < 2 or num_targets < 2:
        return nothing
    observed = np.array(
        [
            _scatter(numbers, of_rater, by_rater),
            _scatter(numbers, of_target, by_target),
            total * float(((numbers - numbers.mean()) ** 2).sum()),
        ]
    )
    # Columns: what a unit of variance of targets, of raters and of the rest adds to each sum.
    expected = np.array(
        [
            [total - num_raters, 0.0, total - num_raters],
            [0.0, total - num_targets, total - num_targets],
            [total**2 - (by_target**2).sum(), total**2 - (by_rater**2).sum(), total**2 - total],
        ]
    )
    if np.linalg.cond(expected / expected.max()) > 1e12 or observed[2] <= 0:
        return nothing
    of_targets, of_raters, rest = (float(value) for value in np.linalg.solve(expected, observed))
    # Few votes that hardly overlap can give parts of the variance that no coefficient can be made of.
    single = _coefficient(of_targets, of_targets + of_raters + rest)
    average = _coefficient(of_targets, of_targets + (of_raters + rest) / k)
    return IntraclassCorrelation(single, average, k, num_targets, num_raters, is_complete, of_targets, of_raters, rest)


def _coefficient(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 and abs(part) <= whole else None


def _scatter(numbers: Array, codes: Any, sizes: Array) -> float:
    means = np.bincount(codes, numbers) / sizes
    return float(((numbers - means[codes]) ** 2).sum())
