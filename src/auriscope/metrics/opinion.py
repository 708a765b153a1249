"""What people think of systems: mean opinions, differences, ranks and correlations, with intervals that hold.

A study's votes are crossed: a rater votes on many mixtures, a mixture is voted on by many raters, and both are samples
of what they stand for. Intervals that take votes as independent are far too narrow. Here everything is computed again
from votes weighted at random, by raters, by mixtures, and by both at once; the variances of the first two add up, less
that of the third, which both hold. Source: Cameron, Gelbach and Miller, "Robust inference with multiway clustering"
(2011), equation 2.12; Owen and Eckles, "Bootstrapping data arrays of arbitrary order" (2012) for random weights in
place of resampling; Rubin, "The Bayesian bootstrap" (1981) for exponential ones, which leave nothing without votes.

Raters, mixtures, systems and tracks are given as whole numbers from 0. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

MIN_TRACKS = 4
"""A correlation of fewer tracks says nothing and is not given."""

_NO_VARIANCE = 1e-12
_CHUNK = 1 << 21


@dataclass(frozen=True)
class Estimate:
    """A value and its interval from ``low`` to ``high``; None where the votes do not tell.

    ``p`` is the two-sided p-value of the value being zero, for differences.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def clipped(self, lowest: float, highest: float) -> Estimate:
        """Cut the interval where the scale ends; what lies beyond cannot be true."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.value, max(self.low, lowest), min(self.high, highest), self.p)


def t_interval(values: Any, confidence: float = 0.95) -> Estimate:
    """Give the mean of independent values with Student's interval.

    ``values`` (n,), of any unit. The mean is None without values, the interval with fewer than two. At five values the
    quantile is 2.78, not 1.96: the normal interval would hold in 88 % of cases only. Source: Student, "The probable
    error of a mean" (1908).

    >>> found = t_interval([3, 4, 4, 5, 4])
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (4.0, 3.122, 4.878)
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return Estimate(None)
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return Estimate(mean)
    half = float(stats.t.ppf(0.5 + confidence / 2, len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return Estimate(mean, mean - half, mean + half)


def mean_by_cluster(values: Any, clusters: Any) -> Array:
    """Average values (n,) that share a cluster (n,), such as the tracks of a mixture: one value a cluster."""
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    numbers = np.asarray(values, dtype=np.float64)
    return np.asarray(np.bincount(codes, numbers) / np.bincount(codes), dtype=np.float64)


def welch_difference(first: Any, second: Any, confidence: float = 0.95) -> Estimate:
    """Give the mean of ``first`` less that of ``second``, independent values of unequal variances (Welch, 1947)."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not len(a) or not len(b):
        return Estimate(None)
    value = float(a.mean() - b.mean())
    if len(a) < 2 or len(b) < 2:
        return Estimate(value)
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    return _interval(value, parts, np.array([len(a) - 1, len(b) - 1]), confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false finding among all stays below the level (Holm, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[index]))
        adjusted[index] = highest
    return [round(float(value), 15) for value in adjusted]


def crossed_means(
    scores: Any, raters: Any, mixtures: Any, systems: Any, *, num_resamples: int = 2000, seed: int = 0
) -> CrossedMeans:
    """Compute the systems' mean opinions from crossed votes (n,), with what intervals and differences need.

    ``systems`` (n,) are whole numbers from 0, none left out. The target of the intervals is the mean opinion of all
    raters and all mixtures of which these are samples.
    """
    numbers = np.asarray(scores, dtype=np.float64)
    of_system = np.asarray(systems)
    num_systems = int(of_system.max()) + 1
    ways = {}
    counts = {}
    for number, (way, codes) in enumerate(_ways(raters, mixtures).items()):
        num_clusters = int(codes.max()) + 1
        sums = np.zeros((num_clusters, num_systems))
        times = np.zeros((num_clusters, num_systems))
        np.add.at(sums, (codes, of_system), numbers)
        np.add.at(times, (codes, of_system), 1.0)
        made = [(w @ sums) / (w @ times) for w in _weights(num_clusters, num_resamples, [seed, number])]
        ways[way], counts[way] = np.concatenate(made), times > 0
    means = np.bincount(of_system, numbers, num_systems) / np.bincount(of_system, minlength=num_systems)
    return CrossedMeans(np.asarray(means, dtype=np.float64), ways, counts)


@dataclass(frozen=True, eq=False)
class CrossedMeans:
    """Mean opinions ``means`` (systems,), and the same from weighted votes (resamples, systems) by way of weighting.

    ``present`` says by way which raters, mixtures or pairs of them (clusters, systems) a system has votes of.
    """

    means: Array
    resampled: dict[str, Array]
    present: dict[str, NDArray[np.bool_]]

    def mean(self, system: int, confidence: float = 0.95) -> Estimate:
        """Give a system's mean opinion with its interval; without one for a single rater of a single mixture."""
        return self._contrast([(system, 1.0)], confidence)

    def difference(self, first: int, second: int, confidence: float = 0.95) -> Estimate:
        """Give the first system's mean less the second's, from the same raters and mixtures, so that these cancel."""
        return self._contrast([(first, 1.0), (second, -1.0)], confidence)

    def _contrast(self, parts: list[tuple[int, float]], confidence: float) -> Estimate:
        value = float(sum(sign * self.means[system] for system, sign in parts))
        variances, sizes = {}, {}
        for way, resampled in self.resampled.items():
            sizes[way] = int(self.present[way][:, [system for system, _ in parts]].any(axis=1).sum())
            variances[way] = _variance(sum(sign * resampled[:, system] for system, sign in parts), sizes[way])
        if sizes["raters"] < 2 and sizes["mixtures"] < 2:
            return Estimate(value)
        if sizes["raters"] < 2 or sizes["mixtures"] < 2:
            # With a single rater, or mixture, what is said holds for that one.
            way = "mixtures" if sizes["raters"] < 2 else "raters"
            return _interval(value, np.array([variances[way]]), np.array([sizes[way] - 1]), confidence)
        both = np.array([variances["raters"], variances["mixtures"]])
        total = max(float(both.sum() - variances["both"]), float(both.max()))
        scaled = both * total / both.sum() if both.sum() > 0 else both
        return _interval(value, scaled, np.array([sizes["raters"] - 1, sizes["mixtures"] - 1]), confidence)


def rank_bounds(means: Array, adjusted: Array, level: float = 0.05) -> list[tuple[int, int]]:
    """Give the best and the worst rank that each system may have, 1 for the highest mean.

    ``adjusted`` (systems, systems) are p-values of the differences, adjusted for their number (:func:`holm`). A system
    stands behind those that are significantly better, and before those that are significantly worse, so that all true
    ranks lie within their bounds in 95 % of studies. Percentiles of resampled ranks do not hold where systems are near.
    Source: Al Mohamad, Goeman and van Zwet, "Simultaneous confidence intervals for ranks" (2022); Mogstad et al.,
    "Inference for ranks" (2024).

    >>> import numpy as np
    >>> rank_bounds(np.array([4.0, 3.9, 2.0]), np.array([[1, 0.6, 0.01], [0.6, 1, 0.01], [0.01, 0.01, 1]]))
    [(1, 2), (1, 2), (3, 3)]
    """
    better = (means[None, :] > means[:, None]) & (adjusted < level)
    return [(1 + int(row.sum()), len(means) - int(column.sum())) for row, column in zip(better, better.T, strict=True)]


@dataclass(frozen=True)
class Correlation:
    """How a blind estimate goes with opinion, in one ``scope``: ``pooled``, ``within``, or the number of a system.

    ``pearson`` and ``spearman`` compare with the mean of as many votes as each track has. ``without_noise`` is what
    Pearson's coefficient would be with any number of raters (Spearman's correction for attenuation, 1904).
    ``reliability`` is the share of the tracks' variance of opinion that is not chance.
    """

    scope: str | int
    num_tracks: int
    num_mixtures: int
    num_votes: int
    pearson: Estimate
    spearman: Estimate
    reliability: float | None
    without_noise: float | None


@dataclass(frozen=True, eq=False)
class RatedTracks:
    """Votes (votes,) by rater and track, and of every track (tracks,) its mixture, system and blind estimate."""

    scores: Array
    raters: Codes
    tracks: Codes
    mixtures: Codes
    systems: Codes
    blind: Array

    @cached_property
    def num_votes(self) -> Array:
        """The number of votes of each track."""
        return np.bincount(self.tracks, minlength=len(self.blind)).astype(np.float64)

    @cached_property
    def opinions(self) -> Array:
        """The mean opinion of each track."""
        sums = np.bincount(self.tracks, self.scores, len(self.blind))
        return np.asarray(sums / self.num_votes, dtype=np.float64)


def correlations(
    rated: RatedTracks, *, num_resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> list[Correlation]:
    """Correlate blind estimates with opinions: over all tracks, within systems, and in each system.

    Every track must have a vote and a blind estimate. ``within`` is the mean of the systems' coefficients (of their
    Fisher z, weighted by tracks): what is left when systems are not compared with each other. If it is much lower than
    ``pooled``, the estimate tells systems apart, but not tracks. Intervals are Student's on Fisher's z, whose variance
    is found by weighting mixtures (or leaving out each, if that gives more), and what raters add by weighting raters.
    """
    systems = [system for system in np.unique(rated.systems) if (rated.systems == system).sum() >= MIN_TRACKS]
    scopes: list[tuple[str | int, NDArray[np.bool_]]] = [("pooled", np.ones(len(rated.blind), dtype=bool))]
    scopes += [(int(system), rated.systems == system) for system in systems]
    masks = [mask for _, mask in scopes]
    values = {kind: _fisher(rated.blind, rated.opinions[None], None, masks, kind)[0] for kind in _KINDS}
    resampled = _resampled_correlations(rated, masks, num_resamples, seed)
    found = []
    for index, (scope, mask) in enumerate(scopes):
        estimates = [
            _from_fisher(
                values[kind][index],
                {way: made[:, index] for way, made in resampled[kind].items()},
                rated,
                mask,
                confidence,
            )
            for kind in _KINDS
        ]
        found.append(_correlation(scope, rated, mask, *estimates))
    if len(systems) > 1:
        inside = np.isin(rated.systems, systems)
        weights = np.array([max(mask.sum() - 3, 1) for mask in masks[1:]], dtype=np.float64)
        estimates = [
            _from_fisher(
                _weighted(values[kind][None, 1:], weights)[0],
                {way: _weighted(made[:, 1:], weights) for way, made in resampled[kind].items()},
                rated,
                inside,
                confidence,
            )
            for kind in _KINDS
        ]
        found.insert(1, _correlation("within", rated, inside, *estimates))
    return found


_KINDS = ("pearson", "spearman")


def _correlation(
    scope: str | int, rated: RatedTracks, mask: NDArray[np.bool_], pearson: Estimate, spearman: Estimate
) -> Correlation:
    reliability = _reliability(rated, mask, by_system=scope == "within")
    without = None
    if pearson.value is not None and reliability is not None and reliability > 0:
        without = float(np.clip(pearson.value / np.sqrt(reliability), -1.0, 1.0))
    num_mixtures = len(np.unique(rated.mixtures[mask]))
    num_votes = int(rated.num_votes[mask].sum())
    return Correlation(scope, int(mask.sum()), num_mixtures, num_votes, pearson, spearman, reliability, without)


def _reliability(rated: RatedTracks, mask: NDArray[np.bool_], *, by_system: bool) -> float | None:
    """Give the share of the variance of tracks' opinions that is not the votes' chance."""
    squares = np.bincount(rated.tracks, (rated.scores - rated.opinions[rated.tracks]) ** 2, len(rated.blind))
    spare = float((rated.num_votes[mask] - 1).sum())
    opinions, num_means = rated.opinions[mask], 1
    if by_system:
        systems, codes = np.unique(rated.systems[mask], return_inverse=True)
        opinions, num_means = opinions - (np.bincount(codes, opinions) / np.bincount(codes))[codes], len(systems)
    if spare < 1 or mask.sum() < MIN_TRACKS or np.ptp(opinions) == 0:
        return None
    chance = squares[mask].sum() / spare * (1.0 / rated.num_votes[mask]).mean()
    variance = float((opinions - opinions.mean()) @ (opinions - opinions.mean())) / max(len(opinions) - num_means, 1)
    return float(np.clip(1.0 - chance / variance, 0.0, 1.0))


def _resampled_correlations(
    rated: RatedTracks, masks: list[NDArray[np.bool_]], num_resamples: int, seed: int
) -> dict[str, dict[str, Array]]:
    """Give Fisher's z (resamples, scopes) by kind of coefficient and way of weighting; and without each mixture."""
    of_votes = _ways(rated.raters, rated.mixtures[rated.tracks])
    mixtures = np.unique(rated.mixtures, return_inverse=True)[1]
    ways = [*of_votes, "without one mixture"]
    made: dict[str, dict[str, list[Array]]] = {kind: {way: [] for way in ways} for kind in _KINDS}
    for number, (way, codes) in enumerate(of_votes.items()):
        num_clusters = int(codes.max()) + 1
        shape = (num_clusters, len(rated.blind))
        sums = sparse.csr_array((rated.scores, (codes, rated.tracks)), shape=shape)
        times = sparse.csr_array((np.ones(len(codes)), (codes, rated.tracks)), shape=shape)
        for weights in _weights(num_clusters, num_resamples, [seed, 7, number], len(rated.blind)):
            if way == "mixtures":
                opinions, of_tracks = rated.opinions[None], weights[:, mixtures]
            else:
                opinions, of_tracks = (sums.T @ weights.T).T / (times.T @ weights.T).T, None
            for kind in _KINDS:
                made[kind][way].append(_fisher(rated.blind, opinions, of_tracks, masks, kind))
    num_mixtures = int(mixtures.max()) + 1
    for left_out in np.array_split(np.arange(num_mixtures), 1 + num_mixtures * len(rated.blind) // _CHUNK):
        weights = (left_out[:, None] != mixtures[None, :]).astype(np.float64)
        for kind in _KINDS:
            made[kind][ways[-1]].append(_fisher(rated.blind, rated.opinions[None], weights, masks, kind))
    return {kind: {way: np.concatenate(parts) for way, parts in ways.items()} for kind, ways in made.items()}


def _fisher(blind: Array, opinions: Array, weights: Array | None, masks: list[NDArray[np.bool_]], kind: str) -> Array:
    """Give Fisher's z (resamples, scopes) of blind estimates (tracks,) with opinions (1 or resamples, tracks)."""
    columns = []
    for mask in masks:
        x, y = blind[None, mask], opinions[:, mask]
        chosen = None if weights is None else weights[:, mask]
        if kind == "spearman":
            x, y = _ranks(x, chosen), _ranks(y, chosen)
        columns.append(_pearson(x, y, chosen))
    # Beyond this, rounding decides.
    return np.arctanh(np.clip(np.stack(columns, axis=1), -1 + 1e-12, 1 - 1e-12))


def _ranks(values: Array, weights: Array | None) -> Array:
    """Rank each row, ties by the middle of their places; with weights (resamples, n) a value takes as many places."""
    if weights is None:
        return np.asarray(stats.rankdata(values, axis=1), dtype=np.float64)
    # Weighted rows share one row of values: it is sorted once.
    distinct, codes = np.unique(values[0], return_inverse=True)
    places = sparse.csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), len(distinct)))
    taken = weights @ places
    return np.asarray((np.cumsum(taken, axis=1) - taken / 2)[:, codes], dtype=np.float64)


def _pearson(x: Array, y: Array, weights: Array | None) -> Array:
    """Correlate the rows of x and y; NaN where one does not vary."""
    w = np.ones((1, x.shape[1])) if weights is None else weights
    w = w / np.maximum(w.sum(axis=1, keepdims=True), 1e-300)
    x = x - (w * x).sum(axis=1, keepdims=True)
    y = y - (w * y).sum(axis=1, keepdims=True)
    above = (w * x * y).sum(axis=1)
    x_spread, y_spread = (w * x * x).sum(axis=1), (w * y * y).sum(axis=1)
    still = (x_spread < 1e-18) | (y_spread < 1e-18)
    below = np.sqrt(np.where(still, 1.0, x_spread * y_spread))
    return np.asarray(np.where(still, np.nan, above / below), dtype=np.float64)


def _weighted(z: Array, weights: Array) -> Array:
    """Average the systems' z in each row, leaving out systems that do not vary at all."""
    known = np.isfinite(z)
    total = (known * weights).sum(axis=1)
    mean = (np.where(known, z, 0.0) * weights).sum(axis=1) / np.where(total > 0, total, 1.0)
    return np.asarray(np.where(total > 0, mean, np.nan), dtype=np.float64)


def _from_fisher(
    z: float, resampled: dict[str, Array], rated: RatedTracks, mask: NDArray[np.bool_], confidence: float
) -> Estimate:
    if not np.isfinite(z) or mask.sum() < MIN_TRACKS:
        return Estimate(None)
    chosen = mask[rated.tracks]
    num_mixtures = len(np.unique(rated.mixtures[mask]))
    num_raters = len(np.unique(rated.raters[chosen]))
    if num_mixtures < 3 or abs(z) > 14:
        return Estimate(float(np.tanh(z)))
    # Random weights make the error of a coefficient a few percent too small, the jackknife does not.
    apart = resampled["without one mixture"] - z
    jackknife = float(np.nansum(apart**2)) * (num_mixtures - 1) / num_mixtures
    by_mixtures = max(_variance(resampled["mixtures"], num_mixtures), jackknife)
    added = 0.0
    if num_raters > 1:
        num_both = len(np.unique(_ways(rated.raters, rated.mixtures[rated.tracks])["both"][chosen]))
        added = _variance(resampled["raters"], num_raters) - _variance(resampled["both"], num_both)
    parts = np.array([by_mixtures, max(added, 0.0)])
    made = _interval(float(z), parts, np.array([num_mixtures - 1, max(num_raters - 1, 1)]), confidence)
    assert made.low is not None
    assert made.high is not None
    return Estimate(float(np.tanh(z)), float(np.tanh(made.low)), float(np.tanh(made.high)), made.p)


def _ways(raters: Any, mixtures: Any) -> dict[str, Codes]:
    """Number the raters, the mixtures and the pairs of them (n,) from 0, without gaps."""
    a = np.unique(np.asarray(raters), return_inverse=True)[1].astype(np.int64)
    b = np.unique(np.asarray(mixtures), return_inverse=True)[1].astype(np.int64)
    both = np.unique(a * (int(b.max(initial=0)) + 1) + b, return_inverse=True)[1].astype(np.int64)
    return {"raters": a, "mixtures": b, "both": both}


def _weights(num_clusters: int, num_resamples: int, seed: list[int], width: int = 0) -> Iterator[Array]:
    """Give random weights (some resamples, clusters) of mean and variance 1, a part at a time: so many that rows of
    ``width`` can be made of them too.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, min(num_resamples, _CHUNK // max(num_clusters, width)))
    for begin in range(0, num_resamples, rows):
        yield generator.standard_exponential((min(rows, num_resamples - begin), num_clusters))


def _variance(resampled: Any, num_clusters: int) -> float:
    """Give the variance of weighted results, without the bias that it has with few clusters."""
    values = np.asarray(resampled)
    values = values[np.isfinite(values)]
    if num_clusters < 2 or len(values) < 2:
        return 0.0
    # Exponential weights that add up to 1 are Dirichlet's: the variance of a mean is s² (n - 1) / n / (n + 1).
    return float(values.var(ddof=1)) * (num_clusters + 1) / (num_clusters - 1)


def _interval(value: float, variances: Array, degrees: Array, confidence: float) -> Estimate:
    """Give Student's interval of a value whose variance has several parts (Satterthwaite, 1946).

    Votes that do not vary say nothing of how they would vary: there is no interval then, and no p unless the value
    is 0.
    """
    total = float(variances.sum())
    if total <= _NO_VARIANCE:
        return Estimate(value, None, None, 1.0 if value == 0 else None)
    dof = total**2 / float((variances**2 / np.maximum(degrees, 1)).sum())
    half = float(stats.t.ppf(0.5 + confidence / 2, dof)) * np.sqrt(total)
    p = float(2 * stats.t.sf(abs(value) / np.sqrt(total), dof))
    return Estimate(value, value - float(half), value + float(half), p)
