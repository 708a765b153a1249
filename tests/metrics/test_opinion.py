"""Opinions: against scipy, pingouin and statsmodels, and intervals that hold what they promise."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pingouin
import pytest
import statsmodels.api as sm
from scipy import stats

from auriscope.metrics.opinion import (
    Estimate,
    RatedTracks,
    _ranks,
    correlations,
    crossed_means,
    holm,
    mean_by_cluster,
    rank_bounds,
    t_interval,
    welch_difference,
)


def votes(seed: int, raters: int, mixtures: int, per_rater: int = 10, rater_sd: float = 0.5) -> tuple[Any, ...]:
    """Crossed votes on two systems, not rounded: score, rater, mixture, system."""
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.choice(2 * mixtures, per_rater, replace=False) for _ in range(raters)])
    rater, mixture, system = np.repeat(np.arange(raters), per_rater), chosen // 2, chosen % 2
    score = 3.0 + 0.5 * system + rater_sd * rng.standard_normal(raters)[rater]
    score += 0.5 * rng.standard_normal(mixtures)[mixture] + 0.7 * rng.standard_normal(len(chosen))
    return score, rater, mixture, system


def test_students_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 1, 9)
    low, high = stats.t.interval(0.95, 8, values.mean(), stats.sem(values))
    assert t_interval(values) == Estimate(pytest.approx(values.mean()), pytest.approx(low), pytest.approx(high))


def test_five_votes_need_students_quantile() -> None:
    drawn = np.random.default_rng(1).standard_normal((6000, 5))
    found = [t_interval(values) for values in drawn]
    student = np.mean([one.low <= 0 <= one.high for one in found])
    normal = np.mean(np.abs(drawn.mean(axis=1)) <= 1.96 * drawn.std(axis=1, ddof=1) / np.sqrt(5))
    # At 95 %, three standard errors of these shares are 0.8 %.
    assert 0.942 <= student <= 0.958
    assert 0.865 <= normal <= 0.892


def test_without_enough_values_there_is_no_interval() -> None:
    assert t_interval([]) == Estimate(None)
    assert t_interval([4.0]) == Estimate(4.0)
    assert welch_difference([], [1.0]) == Estimate(None)
    assert welch_difference([2.0], [1.0, 1.5]) == Estimate(0.75)


def test_welchs_difference_is_that_of_scipy() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(2, 1, 12), rng.normal(1, 3, 7)
    theirs = stats.ttest_ind(first, second, equal_var=False)
    bounds = theirs.confidence_interval()
    ours = welch_difference(first, second)
    assert ours.low == pytest.approx(bounds.low)
    assert ours.high == pytest.approx(bounds.high)
    assert ours.p == pytest.approx(theirs.pvalue)


def test_holm_is_that_of_pingouin() -> None:
    p_values = np.random.default_rng(3).uniform(0, 0.2, 15).tolist()
    assert holm(p_values) == pytest.approx(pingouin.multicomp(p_values, method="holm")[1])
    assert holm([]) == []


def test_mean_by_cluster_gives_each_mixture_one_value() -> None:
    assert mean_by_cluster([1.0, 3.0, 10.0], ["a", "a", "b"]).tolist() == [2.0, 10.0]


@pytest.mark.parametrize("contrast", ["mean", "difference"])
def test_crossed_intervals_have_the_width_of_two_way_clustering(contrast: str) -> None:
    score, rater, mixture, system = votes(4, raters=60, mixtures=40)
    ours = crossed_means(score, rater, mixture, system, num_resamples=20_000)
    design = np.stack([system == 0, system == 1], axis=1).astype(float)
    theirs = sm.OLS(score, design).fit(
        cov_type="cluster", cov_kwds={"groups": np.stack([rater, mixture], axis=1), "use_correction": False}
    )
    weights = np.array([1.0, 0.0] if contrast == "mean" else [1.0, -1.0])
    error = float(np.sqrt(weights @ theirs.cov_params() @ weights))
    found = ours.mean(0) if contrast == "mean" else ours.difference(0, 1)
    assert found.value == pytest.approx(float(weights @ theirs.params))
    # Our degrees of freedom lie between 39 and 98, where the quantile is 1.98 to 2.02.
    assert (found.high - found.low) / 2 == pytest.approx(2.0 * error, rel=0.05)


def test_with_one_rater_a_difference_is_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(3.5, 1, 30)
    second = first - rng.normal(0.4, 0.6, 30)
    mixture = np.tile(np.arange(30), 2)
    crossed = crossed_means(
        np.concatenate([first, second]), np.zeros(60, int), mixture, np.repeat([0, 1], 30), num_resamples=20_000
    )
    theirs = stats.ttest_rel(first, second).confidence_interval()
    ours = crossed.difference(0, 1)
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_one_rater_on_one_mixture_has_no_interval() -> None:
    crossed = crossed_means([4, 2], [0, 0], [0, 0], [0, 1], num_resamples=100)
    assert crossed.mean(0) == Estimate(4.0)
    assert crossed.difference(0, 1) == Estimate(2.0)


def test_votes_that_are_all_the_same_have_no_interval() -> None:
    crossed = crossed_means([4] * 8, [0, 1] * 4, [0, 0, 1, 1] * 2, [0] * 4 + [1] * 4, num_resamples=100)
    assert crossed.mean(1) == Estimate(4.0)
    assert crossed.difference(0, 1) == Estimate(0.0, p=1.0)


def test_crossed_intervals_hold_for_all_raters_and_mixtures() -> None:
    held: dict[str, list[bool]] = {"crossed": [], "independent": [], "difference": []}
    for seed in range(250):
        score, rater, mixture, system = votes(seed, raters=20, mixtures=20)
        crossed = crossed_means(score, rater, mixture, system, num_resamples=200, seed=seed)
        alone, apart = t_interval(score[system == 0]), crossed.difference(0, 1)
        whole = crossed.mean(0)
        held["crossed"].append(whole.low <= 3.0 <= whole.high)
        held["independent"].append(alone.low <= 3.0 <= alone.high)
        held["difference"].append(apart.low <= -0.5 <= apart.high)
    shares = {name: np.mean(values) for name, values in held.items()}
    # Three standard errors below 95 % are 91 %.
    assert 0.90 <= shares["crossed"] <= 0.99
    assert 0.90 <= shares["difference"] <= 0.99
    assert shares["independent"] < 0.80


def test_ranks_are_open_unless_a_difference_closes_them() -> None:
    means = np.array([2.0, 4.0, 3.0])
    assert rank_bounds(means, np.ones((3, 3))) == [(1, 3)] * 3
    assert rank_bounds(means, np.zeros((3, 3))) == [(3, 3), (1, 1), (2, 2)]


def test_close_systems_get_each_others_ranks() -> None:
    outside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = np.array([3.0, 3.02, 3.04, 3.6])
        values = truth + rng.standard_normal((40, 4))
        means = values.mean(axis=0)
        pairs = list(combinations(range(4), 2))
        adjusted = np.ones((4, 4))
        for (a, b), p in zip(
            pairs, holm([float(stats.ttest_rel(values[:, a], values[:, b]).pvalue) for a, b in pairs]), strict=True
        ):
            adjusted[a, b] = adjusted[b, a] = p
        bounds = rank_bounds(means, adjusted)
        outside += any(not low <= right <= high for (low, high), right in zip(bounds, (4, 3, 2, 1), strict=True))
    assert outside <= 0.05 * 200 + 3 * np.sqrt(200 * 0.05 * 0.95)


def rated(seed: int, *, num_mixtures: int = 40, num_votes: int = 8, slope: float = 0.3) -> RatedTracks:
    """Two systems with two tracks of each mixture, voted on by ``num_votes`` of 30 raters."""
    rng = np.random.default_rng(seed)
    track = np.arange(num_mixtures * 4)
    blind = rng.normal(5, 3, len(track)).round(1)
    opinion = 3 + slope * (blind - 5) + 0.5 * rng.standard_normal(len(track))
    tracks = np.repeat(track, num_votes)
    raters = np.concatenate([rng.choice(30, num_votes, replace=False) for _ in track])
    scores = np.clip(np.round(opinion[tracks] + 0.8 * rng.standard_normal(len(tracks))), 1, 5)
    return RatedTracks(scores, raters, tracks, track // 4, track // 2 % 2, blind)


def test_correlations_are_those_of_scipy_ties_and_all() -> None:
    data = rated(0)
    pooled, within, first, second = correlations(data, num_resamples=200)
    assert (pooled.scope, within.scope, first.scope, second.scope) == ("pooled", "within", 0, 1)
    assert pooled.pearson.value == pytest.approx(stats.pearsonr(data.blind, data.opinions)[0])
    assert pooled.spearman.value == pytest.approx(stats.spearmanr(data.blind, data.opinions)[0])
    mine = data.systems == 1
    assert second.spearman.value == pytest.approx(stats.spearmanr(data.blind[mine], data.opinions[mine])[0])
    middle = np.tanh((np.arctanh(first.pearson.value) + np.arctanh(second.pearson.value)) / 2)
    assert within.pearson.value == pytest.approx(middle)
    assert (pooled.num_tracks, pooled.num_mixtures, pooled.num_votes) == (160, 40, 1280)


def test_weighted_ranks_are_those_of_repeated_values() -> None:
    values = np.array([[3.0, 1.0, 3.0, 2.0, 5.0]])
    weights = np.array([[1, 2, 3, 0, 1], [2, 1, 1, 1, 4]])
    for row, ranks in zip(weights, _ranks(values, weights.astype(float)), strict=True):
        repeated = stats.rankdata(np.repeat(values[0], row))
        assert np.repeat(ranks, row) + 0.5 == pytest.approx(repeated)


def test_fishers_interval_is_what_it_is_where_votes_are_independent() -> None:
    # A track a mixture, and one rater for each vote: nothing is shared.
    rng = np.random.default_rng(6)
    blind = rng.standard_normal(300)
    scores = 0.6 * blind + 0.8 * rng.standard_normal(300)
    one = np.arange(300)
    data = RatedTracks(scores, one, one, one, np.zeros(300, int), blind)
    theirs = stats.pearsonr(blind, scores).confidence_interval()
    ours = correlations(data, num_resamples=10_000)[0].pearson
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.02), pytest.approx(theirs.high, abs=0.02))


def test_a_correlation_between_systems_is_not_one_within_them() -> None:
    rng = np.random.default_rng(7)
    track = np.arange(120)
    system = track % 3
    inside = rng.standard_normal(120)
    blind = 5.0 * system + inside
    tracks, raters = np.repeat(track, 6), np.tile(np.arange(6), 120)
    scores = np.clip(np.round(2 + system - 0.5 * inside)[tracks] + rng.integers(-1, 2, 720) * 0.3, 1, 5)
    pooled, within, *_ = correlations(RatedTracks(scores, raters, tracks, track // 3, system, blind), num_resamples=200)
    assert pooled.pearson.low > 0
    assert within.pearson.high < 0


def test_the_noise_of_few_raters_is_taken_off() -> None:
    few = [correlations(rated(seed, num_votes=3), num_resamples=100)[0] for seed in range(20)]
    many = [correlations(rated(seed, num_votes=30), num_resamples=100)[0] for seed in range(20)]
    true = np.mean([one.pearson.value for one in many])
    assert np.mean([one.pearson.value for one in few]) < true - 0.02
    assert np.mean([one.without_noise for one in few]) == pytest.approx(true, abs=0.02)
    assert all(one.reliability < 0.95 for one in few)


def test_what_does_not_vary_has_no_correlation() -> None:
    data = rated(0)
    flat = RatedTracks(data.scores, data.raters, data.tracks, data.mixtures, data.systems, np.full(160, 3.0))
    assert all(row.pearson == row.spearman == Estimate(None) for row in correlations(flat, num_resamples=100))
    alike = RatedTracks(np.full(1280, 4.0), data.raters, data.tracks, data.mixtures, data.systems, data.blind)
    assert all(
        row.pearson == Estimate(None) and row.reliability is None for row in correlations(alike, num_resamples=100)
    )


def test_the_seed_decides() -> None:
    data = rated(1)
    assert correlations(data, num_resamples=100, seed=3) == correlations(data, num_resamples=100, seed=3)
    assert correlations(data, num_resamples=100, seed=3) != correlations(data, num_resamples=100, seed=4)
