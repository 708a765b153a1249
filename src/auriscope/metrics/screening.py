"""Which raters did not listen, and how well each agrees with the others. A rater's own votes never count in that.

What others say of a track is the mean of their votes, without the rater's own. Whoever says the same as all others is
never dropped, whatever they did with gold items and however quick they were: no rule divides by how much votes vary,
and where the others' opinions do not differ nobody can be asked to follow them. (Screening by correlation does both: it
is undefined for votes that do not vary, and drops everybody when all agree.) Raters and tracks are whole numbers from
0. Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Method = Literal["standard", "bt500", "none"]

_ROUNDS = 3


@dataclass(frozen=True)
class Limits:
    """What the standard screening asks of raters.

    Nothing of those whose votes are, in the root of the mean square, at most ``unanimous`` points from the others'. Of
    gold and trap items, fewer than ``min_failures`` failed, or less than the share ``max_failed``; else votes that
    clearly follow the differences that the others hear. Fewer than the share ``max_hurried`` of pages left in less than
    ``hurried`` of the time that raters usually take for that item, if ``min_timed`` raters were timed. At least
    ``min_votes`` votes before opinions are compared at all. A deviation from the others (root of the mean square,
    without the rater's own bias, in points) of no more than ``floor``, or than ``num_deviations`` robust standard
    deviations above the usual. A slope against the others' opinions that, with twice its error, reaches the share
    ``min_slope`` of the usual slope; that error is computed with a spread of votes of at least ``min_spread`` points.
    """

    min_failures: int = 2
    max_failed: float = 0.5
    hurried: float = 0.5
    max_hurried: float = 0.5
    min_timed: int = 3
    unanimous: float = 0.5
    min_votes: int = 8
    floor: float = 1.25
    num_deviations: float = 4.0
    min_slope: float = 0.5
    min_spread: float = 0.5


@dataclass(eq=False)
class Screening:
    """What was found of every rater (raters,): NaN where nothing can be said.

    ``bias`` is how much higher than the others a rater votes, ``deviation`` the root of the mean square of the rest,
    ``slope`` how much of the others' differences between tracks they follow (1: all, 0: none). ``hurried`` is the share
    of pages left too fast. ``num_compared`` votes are on tracks that others rated too. ``reasons`` say in words why a
    rater is dropped; nobody without one is.
    """

    num_votes: NDArray[np.int64]
    num_checks: NDArray[np.int64]
    num_failed: NDArray[np.int64]
    hurried: Array
    num_compared: NDArray[np.int64]
    bias: Array
    deviation: Array
    slope: Array
    slope_error: Array
    reasons: list[list[str]] = field(default_factory=list)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """The raters whose votes are used."""
        return np.array([not reasons for reasons in self.reasons], dtype=bool)


@dataclass(frozen=True, eq=False)
class Agreement:
    """How near every rater (raters,) comes to the others: for bonuses. NaN without a track that others rated too.

    ``distance`` is the mean of the absolute differences, in points; ``within_one`` the share of votes at most one point
    away; ``correlation`` is NaN also if the rater's or the others' opinions do not vary. ``num_compared`` votes.
    """

    num_compared: NDArray[np.int64]
    distance: Array
    within_one: Array
    correlation: Array


def others_mean(scores: Any, tracks: Any, counted: Any = None) -> Array:
    """Give for each vote (n,) the mean of the others' votes on its track; NaN where there are none.

    ``counted`` (n,) says whose votes count as others'. Each rater votes on a track once.
    """
    numbers = np.asarray(scores, dtype=np.float64)
    of_track = np.asarray(tracks)
    use = np.ones(len(numbers)) if counted is None else np.asarray(counted, dtype=np.float64)
    num_tracks = int(of_track.max(initial=-1)) + 1
    sums = np.bincount(of_track, use * numbers, num_tracks)[of_track] - use * numbers
    times = np.bincount(of_track, use, num_tracks)[of_track] - use
    return np.asarray(np.where(times > 0.5, sums / np.maximum(times, 1.0), np.nan), dtype=np.float64)


def leave_one_out(scores: Any, raters: Any, tracks: Any, num_raters: int, counted: Any = None) -> Agreement:
    """Compare every rater with the others' mean opinions; see :class:`Agreement`."""
    others = others_mean(scores, tracks, counted)
    known = np.isfinite(others)
    numbers, of_rater, others = np.asarray(scores, dtype=np.float64)[known], np.asarray(raters)[known], others[known]
    times = np.bincount(of_rater, minlength=num_raters)
    apart = np.abs(numbers - others)
    mine, theirs = _centred(numbers, of_rater, times), _centred(others, of_rater, times)
    both = np.bincount(of_rater, mine * theirs, num_raters)
    spread = np.sqrt(np.bincount(of_rater, mine**2, num_raters) * np.bincount(of_rater, theirs**2, num_raters))
    return Agreement(
        times,
        _share(np.bincount(of_rater, apart, num_raters), times),
        _share(np.bincount(of_rater, apart <= 1.0, num_raters), times),
        np.where((spread > 1e-9) & (times > 2), both / np.where(spread > 1e-9, spread, 1.0), np.nan),
    )


def screen(
    scores: Any,
    raters: Any,
    tracks: Any,
    num_raters: int,
    *,
    checks: tuple[Any, Any] | None = None,
    pages: tuple[Any, Any, Any] | None = None,
    method: Method = "standard",
    limits: Limits | None = None,
) -> Screening:
    """Find the raters who did not listen.

    Args:
        scores, raters, tracks: the votes (n,) that count.
        num_raters: of all raters, also those without votes.
        checks: of gold and trap items, the rater and whether they passed.
        pages: of answered pages, the rater, the item and the seconds; NaN seconds do not count.
        method: ``standard``; ``bt500`` for :func:`bt500`, on votes alone; ``none`` drops nobody.
        limits: of the standard method.
    """
    asked = limits or Limits()
    numbers, of_rater, of_track = np.asarray(scores, dtype=np.float64), np.asarray(raters), np.asarray(tracks)
    who, passed = (np.asarray(part) for part in checks) if checks is not None else (np.zeros(0, int), np.zeros(0, bool))
    found = Screening(
        num_votes=np.bincount(of_rater, minlength=num_raters),
        num_checks=np.bincount(who, minlength=num_raters),
        num_failed=np.bincount(who[~passed.astype(bool)], minlength=num_raters),
        hurried=_hurried(pages, num_raters, asked),
        num_compared=np.zeros(num_raters, dtype=np.int64),
        bias=np.full(num_raters, np.nan),
        deviation=np.full(num_raters, np.nan),
        slope=np.full(num_raters, np.nan),
        slope_error=np.full(num_raters, np.nan),
        reasons=[[] for _ in range(num_raters)],
    )
    if method == "bt500":
        _compare(found, numbers, of_rater, of_track, None, asked)
        for rater in bt500(numbers, of_rater, of_track, num_raters):
            found.reasons[rater].append("votes far from the mean on both sides, by the rule of ITU-R BT.500")
        return found
    for _ in range(_ROUNDS):
        # After the first time, those found the time before no longer shape what the others think.
        _compare(found, numbers, of_rater, of_track, found.kept[of_rater], asked)
        if method == "standard":
            _judge(found, asked)
    return found


def bt500(scores: Any, raters: Any, tracks: Any, num_raters: int) -> list[int]:
    """Find raters by the rule of ITU-R BT.500: many votes far from a track's mean, and as many above as below it.

    Far is two standard deviations where votes look normal (kurtosis from 2 to 4), else the root of 20 of them. Tracks
    on which all agree are passed over; as it is written, the rule would count them against everybody. Source: ITU-R
    BT.500-14, annex 1 to part 1, on screening of observers.
    """
    numbers, of_rater, of_track = np.asarray(scores, dtype=np.float64), np.asarray(raters), np.asarray(tracks)
    times = np.bincount(of_track).astype(np.float64)
    apart = _centred(numbers, of_track, times)
    second = np.bincount(of_track, apart**2) / np.maximum(times, 1)
    fourth = np.bincount(of_track, apart**4) / np.maximum(times, 1)
    varies = second > 1e-12
    kurtosis = fourth / np.where(varies, second, 1.0) ** 2
    spread = np.sqrt(second * times / np.maximum(times - 1, 1))
    far = np.where((kurtosis >= 2) & (kurtosis <= 4), 2.0, np.sqrt(20.0)) * spread
    counts = varies[of_track]
    above = np.bincount(of_rater, counts & (apart >= far[of_track]), num_raters)
    below = np.bincount(of_rater, counts & (apart <= -far[of_track]), num_raters)
    votes = np.bincount(of_rater, minlength=num_raters)
    many = (above + below) / np.maximum(votes, 1) > 0.05
    balanced = np.abs(above - below) / np.maximum(above + below, 1) < 0.3
    return [int(rater) for rater in np.flatnonzero(many & balanced)]


def _judge(found: Screening, asked: Limits) -> None:
    """Say for every rater, anew, why their votes are not used."""
    enough = found.num_compared >= asked.min_votes
    known = found.deviation[enough]
    usual = float(np.median(known)) if len(known) else 0.0
    robust = 1.4826 * float(np.median(np.abs(known - usual))) if len(known) else 0.0
    limit = max(asked.floor, usual + asked.num_deviations * robust)
    slopes = found.slope[enough & np.isfinite(found.slope)]
    usual_slope = max(float(np.median(slopes)), 0.0) if len(slopes) else 0.0
    needed = asked.min_slope * usual_slope
    found.reasons = [[] for _ in found.num_votes]
    for rater, reasons in enumerate(found.reasons):
        slope, error = found.slope[rater], found.slope_error[rater]
        compared = bool(enough[rater])
        if compared and np.hypot(found.bias[rater], found.deviation[rater]) <= asked.unanimous:
            continue
        checks, failed = int(found.num_checks[rater]), int(found.num_failed[rater])
        # Who hears the same differences as all others has listened, whatever they think of the gold items.
        follows = compared and usual_slope > 0 and slope - 2 * error > needed / 2
        if failed >= asked.min_failures and failed >= asked.max_failed * checks and not follows:
            reasons.append(f"failed {failed} of {checks} gold and trap items")
        if found.hurried[rater] > asked.max_hurried:
            reasons.append(f"left {100 * found.hurried[rater]:.0f} % of the pages much faster than the others")
        if compared and found.deviation[rater] > limit:
            reasons.append(f"differs from the others by {found.deviation[rater]:.2f} points (limit {limit:.2f})")
        if compared and slope + 2 * error < needed:
            reasons.append(
                "does not follow the differences that the others hear "
                f"(slope {slope:.2f}, usually {usual_slope:.2f})".replace("-", "−")
            )


def _compare(found: Screening, numbers: Array, of_rater: Any, of_track: Any, counted: Any, asked: Limits) -> None:
    """Fill in what comes of comparing every rater with the others whose votes are counted (n,)."""
    num_raters = len(found.num_votes)
    others = others_mean(numbers, of_track, counted)
    known = np.isfinite(others)
    mine, theirs, who = numbers[known], others[known], of_rater[known]
    times = np.bincount(who, minlength=num_raters)
    found.num_compared = times
    found.bias = _share(np.bincount(who, mine - theirs, num_raters), times)
    apart = _centred(mine - theirs, who, times)
    found.deviation = np.sqrt(_share(np.bincount(who, apart**2, num_raters), times))
    own, across = _centred(mine, who, times), _centred(theirs, who, times)
    spread = np.bincount(who, across**2, num_raters)
    differ = spread > 1e-9
    safe = np.where(differ, spread, 1.0)
    found.slope = np.where(differ, np.bincount(who, own * across, num_raters) / safe, np.nan)
    enough = times >= asked.min_votes
    usual = max(asked.min_spread, float(np.median(found.deviation[enough])) if enough.any() else 0.0)
    found.slope_error = np.where(differ, usual / np.sqrt(safe), np.nan)


def _hurried(pages: tuple[Any, Any, Any] | None, num_raters: int, asked: Limits) -> Array:
    if pages is None:
        return np.full(num_raters, np.nan)
    who, items, seconds = np.asarray(pages[0]), np.asarray(pages[1]), np.asarray(pages[2], dtype=np.float64)
    known = np.isfinite(seconds)
    who, items, seconds = who[known], items[known], seconds[known]
    if not len(who):
        return np.full(num_raters, np.nan)
    codes = np.unique(items, return_inverse=True)[1]
    order = np.lexsort((seconds, codes))
    starts = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    times = np.bincount(codes)
    # Of two in the middle the quicker is the usual; a few raters cannot say what is usual.
    usual = seconds[order][starts + (times - 1) // 2]
    fast = (seconds < asked.hurried * usual[codes]) & (times >= asked.min_timed)[codes]
    return _share(np.bincount(who, fast, num_raters), np.bincount(who, minlength=num_raters))


def _centred(values: Array, codes: Any, times: Any) -> Array:
    means = np.bincount(codes, values, len(times)) / np.maximum(times, 1)
    return np.asarray(values - means[codes], dtype=np.float64)


def _share(parts: Any, times: Any) -> Array:
    return np.asarray(np.where(times > 0, parts / np.maximum(times, 1), np.nan), dtype=np.float64)
