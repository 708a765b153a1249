"""How well scores tell whether two recordings are of one speaker: equal error rate, detection cost, DET curve.

A trial is a pair of recordings with a score, the higher the more alike; in a target trial both are of one speaker. A
trial is accepted if its score is above the threshold. Trials that share a speaker are not independent, so intervals
resample speakers, not trials. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from auriscope.metrics.opinion import Estimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DetCurve:
    """The two errors at every threshold that makes a difference, from accepting all trials to accepting none.

    ``thresholds``, ``miss`` (share of target trials rejected) and ``false_alarm`` (share of others accepted) are
    (thresholds,); thresholds lie in the middle between two neighbouring scores.
    """

    thresholds: Array
    miss: Array
    false_alarm: Array

    def deviates(self) -> tuple[Array, Array]:
        """Give false alarm and miss on the axes of a DET plot, where scores of two normal distributions make a line.

        Both (thresholds,), the normal quantile of the rates; rates of 0 and 1 are infinite. Source: Martin et al.,
        "The DET curve in assessment of detection task performance" (1997), section 3.
        """
        return np.asarray(norm.ppf(self.false_alarm)), np.asarray(norm.ppf(self.miss))


@dataclass(frozen=True)
class OperatingPoint:
    """A figure (a rate, or a cost), the threshold at which it is reached, and the two errors there."""

    value: float
    threshold: float
    miss: float
    false_alarm: float


@dataclass(frozen=True)
class VerificationRates:
    """How well a list of trials is told apart, with intervals over speakers (None with fewer than two).

    ``eer`` is a rate from 0 to 1, ``min_dcf`` a cost of 0 and more, 1 being what needs no ears. ``threshold`` is that
    of the equal error rate.
    """

    eer: Estimate
    min_dcf: Estimate
    threshold: float
    num_targets: int
    num_others: int
    num_speakers: int


def det_curve(scores: Any, targets: Any) -> DetCurve:
    """Compute the errors at every threshold.

    ``scores`` (trials,), finite; ``targets`` (trials,) true where both recordings are of one speaker. ``ValueError``
    without a trial of either kind.

    >>> curve = det_curve([0.9, 0.3, 0.6, 0.1], [True, True, False, False])
    >>> curve.miss.tolist(), curve.false_alarm.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0], [1.0, 0.5, 0.5, 0.0, 0.0])
    """
    trials = _Trials(scores, targets)
    missed, accepted, num_targets, num_others = trials.counts(np.ones(len(trials.order)))
    return DetCurve(trials.thresholds, missed / num_targets, accepted / num_others)


def equal_error_rate(scores: Any, targets: Any) -> OperatingPoint:
    """Find where as many target trials are rejected as others are accepted.

    Where no threshold makes the two rates equal, the rate is their mean at the (lowest) threshold where they differ
    least. Arguments and errors as of :func:`det_curve`.

    >>> equal_error_rate([0.9, 0.3, 0.6, 0.1], [True, True, False, False]).value
    0.5
    """
    trials = _Trials(scores, targets)
    return _equal_error(trials, np.ones(len(trials.order)))


def min_dcf(
    scores: Any, targets: Any, *, target_prior: float = 0.01, miss_cost: float = 1.0, false_alarm_cost: float = 1.0
) -> OperatingPoint:
    """Find the least detection cost that any threshold has, over the cost of the better of accepting all or none.

    The cost is ``miss_cost`` · P(miss) · ``target_prior`` + ``false_alarm_cost`` · P(false alarm) · (1 -
    ``target_prior``). Source: NIST 2018 Speaker Recognition Evaluation Plan, section 3.1. Arguments and errors as of
    :func:`det_curve`; ``ValueError`` also for a prior outside 0 to 1 or a cost that is not positive.

    >>> min_dcf([0.9, 0.8, 0.6, 0.1], [True, True, False, False]).value
    0.0
    """
    _check_costs(target_prior, miss_cost, false_alarm_cost)
    trials = _Trials(scores, targets)
    return _least_cost(trials, np.ones(len(trials.order)), target_prior, miss_cost, false_alarm_cost)


def verification_rates(
    scores: Any,
    targets: Any,
    first: Sequence[Any],
    second: Sequence[Any],
    *,
    target_prior: float = 0.01,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> VerificationRates:
    """Compute equal error rate and minimal detection cost with percentile bootstrap intervals over speakers.

    ``first`` and ``second`` (trials,) name the speakers of the two recordings. A resample draws as many speakers as
    there are, with replacement; a speaker drawn n times counts as n people, so that a target trial counts n times, and
    a trial of two speakers n · m times. Source: Davison and Hinkley, "Bootstrap methods and their application" (1997),
    section 3.8, for whole clusters; Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems: the
    subsets bootstrap" (2004), for trials that share a person. Other arguments and errors as of :func:`min_dcf`.
    """
    _check_costs(target_prior, 1.0, 1.0)
    trials = _Trials(scores, targets)
    if not len(first) == len(second) == len(trials.order):
        raise ValueError(f"{len(first)} and {len(second)} speakers were given for {len(trials.order)} scores")
    codes = {name: number for number, name in enumerate(dict.fromkeys([*first, *second]))}
    one = np.array([codes[name] for name in first])[trials.order]
    other = np.array([codes[name] for name in second])[trials.order]

    def rate(weights: Array) -> float:
        return _equal_error(trials, weights).value

    def cost(weights: Array) -> float:
        return _least_cost(trials, weights, target_prior, 1.0, 1.0).value

    equal = np.ones(len(trials.order))
    at = _equal_error(trials, equal)
    drawn: list[Array] = []
    if len(codes) >= 2:
        rng = np.random.default_rng(seed)
        for times in rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)), num_resamples):
            weights = np.where(one == other, times[one], times[one] * times[other]).astype(np.float64)
            # A resample of speakers who have no target trial, or no other one, has no rates.
            if weights[trials.is_target].any() and weights[~trials.is_target].any():
                drawn.append(weights)
    return VerificationRates(
        _interval(at.value, rate, drawn, confidence),
        _interval(cost(equal), cost, drawn, confidence),
        at.threshold,
        int(trials.is_target.sum()),
        int((~trials.is_target).sum()),
        len(codes),
    )


class _Trials:
    """Trials in the order of their scores, and where thresholds between them lie."""

    def __init__(self, scores: Any, targets: Any) -> None:
        numbers = np.asarray(scores, dtype=np.float64)
        kinds = np.asarray(targets).astype(bool)
        if numbers.ndim != 1 or numbers.shape != kinds.shape:
            raise ValueError(f"scores of shape {numbers.shape} do not go with targets of shape {kinds.shape}")
        if not np.isfinite(numbers).all():
            raise ValueError("a score that is not finite cannot be compared with a threshold")
        if not kinds.any() or kinds.all():
            raise ValueError("error rates need target trials and others; there are only trials of one kind")
        self.order = np.argsort(numbers, kind="stable")
        self.is_target = kinds[self.order]
        ordered = numbers[self.order]
        levels, self.starts = np.unique(ordered, return_index=True)
        middles = levels[:-1] + (levels[1:] - levels[:-1]) / 2
        # Neighbouring floats have no middle: the lower one is then the threshold, as only what is above it is accepted.
        middles = np.where(middles < levels[1:], middles, levels[:-1])
        self.thresholds = np.concatenate([[np.nextafter(levels[0], -np.inf)], middles, [levels[-1]]])

    def counts(self, weights: Array) -> tuple[Array, Array, float, float]:
        """Weigh targets rejected and others accepted at every threshold, and all of them.

        ``weights`` (trials,) are in the order of the scores.
        """
        of_targets = np.add.reduceat(np.where(self.is_target, weights, 0.0), self.starts)
        of_others = np.add.reduceat(np.where(self.is_target, 0.0, weights), self.starts)
        missed = np.concatenate([[0.0], np.cumsum(of_targets)])
        refused = np.concatenate([[0.0], np.cumsum(of_others)])
        return missed, refused[-1] - refused, float(missed[-1]), float(refused[-1])


def _equal_error(trials: _Trials, weights: Array) -> OperatingPoint:
    missed, accepted, num_targets, num_others = trials.counts(weights)
    # In whole numbers, so that rounding does not decide between thresholds that are equally good.
    at = int(np.argmin(np.abs(accepted * num_targets - missed * num_others)))
    miss, false_alarm = float(missed[at] / num_targets), float(accepted[at] / num_others)
    return OperatingPoint((miss + false_alarm) / 2, float(trials.thresholds[at]), miss, false_alarm)


def _least_cost(
    trials: _Trials, weights: Array, target_prior: float, miss_cost: float, false_alarm_cost: float
) -> OperatingPoint:
    missed, accepted, num_targets, num_others = trials.counts(weights)
    of_miss, of_false_alarm = miss_cost * target_prior, false_alarm_cost * (1 - target_prior)
    costs = of_miss * missed / num_targets + of_false_alarm * accepted / num_others
    at = int(np.argmin(costs))
    value = float(costs[at] / min(of_miss, of_false_alarm))
    return OperatingPoint(
        value, float(trials.thresholds[at]), float(missed[at] / num_targets), float(accepted[at] / num_others)
    )


def _check_costs(target_prior: float, miss_cost: float, false_alarm_cost: float) -> None:
    if not 0 < target_prior < 1:
        raise ValueError(f"target_prior must lie between 0 and 1; it is {target_prior}")
    if not (miss_cost > 0 and false_alarm_cost > 0):
        raise ValueError(f"costs must be positive; they are {miss_cost} and {false_alarm_cost}")


def _interval(value: float, figure: Callable[[Array], float], drawn: list[Array], confidence: float) -> Estimate:
    if not drawn:
        return Estimate(value)
    low, high = np.quantile([figure(weights) for weights in drawn], [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(value, float(low), float(high))
