"""Error rates of verification: against SpeechBrain's numbers, scikit-learn, and every threshold tried out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn.metrics import det_curve as sklearn_det_curve

from auriscope.metrics import det_curve, equal_error_rate, min_dcf, verification_rates


def drawn(seed: int, num_targets: int = 40, num_others: int = 90, ties: bool = False):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(1.0, 1.0, num_targets), rng.normal(0.0, 1.0, num_others)])
    return (np.round(scores, 1) if ties else scores), np.arange(len(scores)) < num_targets


def test_what_the_reference_implementation_is_tested_with() -> None:
    """The cases of SpeechBrain's tests/unittests/test_metrics.py: all wrong, all right."""
    targets = [True] * 3 + [False] * 3
    wrong, right = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.4, 0.5, 0.6, 0.3, 0.2, 0.1]
    assert equal_error_rate(wrong, targets).value == 1.0
    found = equal_error_rate(right, targets)
    assert found.value == 0.0
    assert 0.3 < found.threshold < 0.4
    assert min_dcf(right, targets).value == 0.0
    # Of its detection cost, which is not divided by the prior's, 0.01.
    assert 0.01 * min_dcf(wrong, targets).value == pytest.approx(0.01)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_every_threshold_tried_out(seed: int, ties: bool) -> None:
    scores, targets = drawn(seed, ties=ties)
    rates = []
    for threshold in [-np.inf, *np.unique(scores)]:
        rates.append((np.mean(scores[targets] <= threshold), np.mean(scores[~targets] > threshold)))
    best = min(rates, key=lambda pair: round(abs(pair[0] - pair[1]), 12))
    assert equal_error_rate(scores, targets).value == pytest.approx(sum(best) / 2)
    for prior, miss_cost, false_alarm_cost in [(0.01, 1.0, 1.0), (0.3, 2.0, 5.0)]:
        costs = [miss_cost * prior * miss + false_alarm_cost * (1 - prior) * alarm for miss, alarm in rates]
        expected = min(costs) / min(miss_cost * prior, false_alarm_cost * (1 - prior))
        found = min_dcf(scores, targets, target_prior=prior, miss_cost=miss_cost, false_alarm_cost=false_alarm_cost)
        assert found.value == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(6))
def test_the_curve_is_that_of_scikit_learn(seed: int) -> None:
    scores, targets = drawn(seed, ties=seed % 2 == 0)
    curve = det_curve(scores, targets)
    false_alarm, miss, _ = sklearn_det_curve(targets, scores)
    ours = {(round(a, 9), round(m, 9)) for a, m in zip(curve.false_alarm, curve.miss, strict=True)}
    assert {(round(a, 9), round(m, 9)) for a, m in zip(false_alarm, miss, strict=True)} <= ours
    # The usual definition by the interpolated curve lies between the two thresholds around it.
    crossing = brentq(lambda rate: np.interp(rate, false_alarm[::-1], miss[::-1]) - rate, 0.0, 1.0)
    assert equal_error_rate(scores, targets).value == pytest.approx(crossing, abs=0.5 / 40)


@pytest.mark.parametrize("ties", [False, True])
def test_a_threshold_has_the_errors_that_it_says(ties: bool) -> None:
    scores, targets = drawn(7, ties=ties)
    for found in (equal_error_rate(scores, targets), min_dcf(scores, targets, target_prior=0.2)):
        assert np.mean(scores[targets] <= found.threshold) == found.miss
        assert np.mean(scores[~targets] > found.threshold) == found.false_alarm


def test_neighbouring_floats_have_a_threshold_between_them() -> None:
    low = 1.0 - 2.0**-53
    found = equal_error_rate([1.0, low], [True, False])
    assert (found.value, found.threshold) == (0.0, low)


def test_scores_that_are_all_the_same_tell_nothing() -> None:
    assert equal_error_rate([0.5] * 6, [True] * 2 + [False] * 4).value == 0.5
    assert min_dcf([0.5] * 6, [True] * 2 + [False] * 4).value == 1.0


def test_normal_scores_make_a_line() -> None:
    scores, targets = drawn(1, 4000, 4000)
    false_alarm, miss = det_curve(scores, targets).deviates()
    kept = (np.abs(false_alarm) < 1.5) & (np.abs(miss) < 1.5)
    slope, offset = np.polyfit(false_alarm[kept], miss[kept], 1)
    assert (slope, offset) == pytest.approx((-1.0, -1.0), abs=0.1)


def all_pairs(num_speakers: int, seed: int):
    """Two recordings of every speaker, each with each: (scores, targets, first, second)."""
    rng = np.random.default_rng(seed)
    voices = rng.normal(size=(num_speakers, 4))
    clips = [(s, voices[s] + 0.9 * rng.normal(size=4)) for s in range(num_speakers) for _ in range(2)]
    pairs = [(a, b) for i, a in enumerate(clips) for b in clips[:i]]
    scores = [-float(np.sum((a[1] - b[1]) ** 2)) for a, b in pairs]
    first, second = [a[0] for a, _ in pairs], [b[0] for _, b in pairs]
    return scores, np.array(first) == np.array(second), first, second


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rates = [equal_error_rate(*all_pairs(400, 10_000 + seed)[:2]).value for seed in range(2)]
    truth = float(np.mean(rates))
    held = 0
    for seed in range(40):
        scores, targets, first, second = all_pairs(25, seed)
        found = verification_rates(scores, targets, first, second, num_resamples=100, seed=seed).eer
        assert found.low <= found.high
        held += found.low <= truth <= found.high
    assert held >= 32  # 38 are expected; of 40 draws at 95 %, fewer than 33 come up once in 10,000 times


def test_a_resample_counts_a_speaker_as_several_people() -> None:
    """Against the trials of a resample written out."""
    scores, targets, first, second = all_pairs(6, 3)
    num = len(set(first) | set(second))
    (times,) = np.random.default_rng(5).multinomial(num, np.full(num, 1 / num), 1)
    # Speakers are numbered in the order in which they come.
    names = list(dict.fromkeys([*first, *second]))
    count = dict(zip(names, times, strict=True))
    more = [count[a] if a == b else count[a] * count[b] for a, b in zip(first, second, strict=True)]
    written_scores, written_targets = np.repeat(scores, more), np.repeat(targets, more)
    found = verification_rates(scores, targets, first, second, num_resamples=1, seed=5)
    assert found.eer.low == found.eer.high == equal_error_rate(written_scores, written_targets).value
    assert found.min_dcf.low == pytest.approx(min_dcf(written_scores, written_targets).value)
    assert (found.num_speakers, found.num_targets, found.num_others) == (6, 6, 60)
    assert found.eer.value == equal_error_rate(scores, targets).value


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([0.1, 0.2], [True, True], "trials of one kind"),
        ([0.1, float("nan")], [True, False], "not finite"),
        ([0.1, 0.2], [True], "do not go with"),
    ],
)
def test_trials_that_have_no_rates(scores, targets, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        equal_error_rate(scores, targets)


def test_costs_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="target_prior"):
        min_dcf([0.1, 0.2], [False, True], target_prior=1.0)
    with pytest.raises(ValueError, match="costs"):
        min_dcf([0.1, 0.2], [False, True], miss_cost=0.0)
    with pytest.raises(ValueError, match="speakers were given"):
        verification_rates([0.1, 0.2], [False, True], ["a"], ["b", "b"])
