"""Screening: finds who does not listen, and never drops whoever says what all others say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from auriscope.metrics.screening import bt500, leave_one_out, others_mean, screen

METHODS = ("standard", "bt500", "none")


def study(seed: int = 0, num_raters: int = 20, num_tracks: int = 40) -> tuple[Any, Any, Any]:
    """Careful raters who all rate all tracks; tracks differ clearly."""
    rng = np.random.default_rng(seed)
    track, rater = np.indices((num_tracks, num_raters))
    heard = np.linspace(1.2, 4.8, num_tracks)[:, None] + 0.6 * rng.standard_normal((num_tracks, num_raters))
    return np.clip(np.round(heard), 1, 5).ravel(), rater.ravel(), track.ravel()


def changed(scores: Any, raters: Any, rater: int, values: Any) -> Any:
    made = scores.copy()
    made[raters == rater] = values
    return made


@pytest.mark.parametrize("method", METHODS)
def test_unanimous_raters_are_kept(method: Any) -> None:
    track, rater = (part.ravel() for part in np.indices((30, 6)))
    for scores in (np.full(180, 5), track % 5 + 1, np.where(track == 0, 1, 5)):
        found = screen(scores, rater, track, 6, method=method)
        assert found.kept.all(), found.reasons


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_rater_is_kept_where_the_others_hardly_differ(method: Any) -> None:
    rng = np.random.default_rng(1)
    track, rater = (part.ravel() for part in np.indices((30, 8)))
    scores = np.where(rng.random(240) < 0.05, 4, 5)
    scores[rater == 3] = 5
    assert screen(scores, rater, track, 8, method=method).kept.all()


def test_one_who_disagrees_once_among_unanimous_raters_is_kept() -> None:
    track, rater = (part.ravel() for part in np.indices((30, 6)))
    scores = np.where((track == 7) & (rater == 2), 2, 5)
    found = screen(scores, rater, track, 6)
    assert found.kept.all()
    assert found.deviation[2] == pytest.approx(np.std(np.where(np.arange(30) == 7, -3, 0)))


@pytest.mark.parametrize("kind", ["random", "constant", "inverted"])
def test_who_does_not_listen_is_found_by_votes_alone(kind: str) -> None:
    scores, raters, tracks = study()
    spoiled = {
        "random": np.random.default_rng(3).integers(1, 6, 40),
        "constant": np.full(40, 3),
        "inverted": 6 - scores[raters == 4],
    }[kind]
    found = screen(changed(scores, raters, 4, spoiled), raters, tracks, 20)
    assert np.flatnonzero(~found.kept).tolist() == [4]
    told = "differs from the others" if kind == "random" else "does not follow"
    assert any(reason.startswith(told) for reason in found.reasons[4])


def test_a_harsh_rater_who_listens_is_kept() -> None:
    scores, raters, tracks = study()
    found = screen(changed(scores, raters, 4, np.clip(scores[raters == 4] - 1, 1, 5)), raters, tracks, 20)
    assert found.kept.all()
    assert found.bias[4] == pytest.approx(-0.9, abs=0.2)


def test_failed_checks_drop_a_rater_unless_votes_show_that_they_listen() -> None:
    scores, raters, tracks = study()
    checks = ([2, 2, 2, 5, 5, 5], np.array([False, False, True, False, True, True]))
    assert screen(scores, raters, tracks, 20, checks=checks).kept.all()
    few = (raters != 2) | (tracks < 5)
    found = screen(scores[few], raters[few], tracks[few], 20, checks=checks)
    assert found.reasons[2] == ["failed 2 of 3 gold and trap items"]
    assert np.flatnonzero(~found.kept).tolist() == [2]
    assert found.num_failed.tolist()[2:6] == [2, 0, 0, 1]


def test_pages_left_too_fast_drop_a_rater() -> None:
    scores, raters, tracks = study()
    seconds = np.where(raters == 6, 4.0, 20.0 + (tracks % 7))
    seconds[(raters == 7) & (tracks < 15)] = 4.0
    found = screen(scores, raters, tracks, 20, pages=(raters, tracks, seconds))
    assert np.flatnonzero(~found.kept).tolist() == [6]
    assert found.hurried[6] == 1.0
    assert found.hurried[7] == pytest.approx(15 / 40)
    unknown = screen(scores, raters, tracks, 20, pages=(raters, tracks, np.full(800, np.nan)))
    assert np.isnan(unknown.hurried).all()


def test_spammers_do_not_shape_what_others_are_compared_with() -> None:
    scores, raters, tracks = study()
    for rater in range(6):
        scores = changed(scores, raters, rater, 6 - scores[raters == rater])
    found = screen(scores, raters, tracks, 20)
    assert np.flatnonzero(~found.kept).tolist() == [0, 1, 2, 3, 4, 5]
    assert found.slope[10] == pytest.approx(1.0, abs=0.15)


def test_a_rater_alone_is_kept_and_nothing_is_said_of_them() -> None:
    found = screen([1, 5, 3], [0, 0, 0], [0, 1, 2], 1)
    assert found.kept.all()
    assert np.isnan([found.bias[0], found.deviation[0], found.slope[0]]).all()


def test_others_mean_is_the_slow_one() -> None:
    rng = np.random.default_rng(4)
    scores, raters, tracks = study()
    some = rng.random(len(scores)) < 0.3
    scores, raters, tracks = scores[some], raters[some], tracks[some]
    counted = raters % 3 > 0
    for vote, mean in enumerate(others_mean(scores, tracks, counted)):
        others = (tracks == tracks[vote]) & (raters != raters[vote]) & counted
        assert mean == pytest.approx(scores[others].mean()) if others.any() else np.isnan(mean)


def test_own_votes_never_count_in_what_a_rater_is_compared_with() -> None:
    scores, raters, tracks = study()
    before = others_mean(scores, tracks)[raters == 5]
    after = others_mean(changed(scores, raters, 5, 1), tracks)[raters == 5]
    assert before == pytest.approx(after)


def test_leave_one_out_is_that_of_scipy() -> None:
    scores, raters, tracks = study()
    found = leave_one_out(scores, raters, tracks, 20)
    mine = raters == 3
    others = others_mean(scores, tracks)[mine]
    assert found.correlation[3] == pytest.approx(stats.pearsonr(scores[mine], others)[0])
    assert found.distance[3] == pytest.approx(np.abs(scores[mine] - others).mean())
    assert found.within_one[3] == pytest.approx((np.abs(scores[mine] - others) <= 1).mean())
    assert found.num_compared[3] == 40


def test_leave_one_out_says_nothing_where_there_is_nothing() -> None:
    found = leave_one_out([3, 4, 4], [0, 0, 1], [0, 1, 1], 3)
    assert found.num_compared.tolist() == [1, 1, 0]
    assert found.distance[:2].tolist() == [0.0, 0.0]
    assert np.isnan(found.distance[2])
    assert np.isnan(found.correlation).all()


@pytest.mark.parametrize("seed", range(3))
def test_bt500_is_the_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, raters, tracks = study(seed)
    for rater in (1, 8):
        scores = changed(scores, raters, rater, rng.integers(1, 6, 40))
    above, below = np.zeros(20), np.zeros(20)
    for track in range(40):
        votes = scores[tracks == track]
        limit = (2.0 if 2 <= stats.kurtosis(votes, fisher=False) <= 4 else np.sqrt(20)) * votes.std(ddof=1)
        above += votes >= votes.mean() + limit
        below += votes <= votes.mean() - limit
    many = (above + below) / 40 > 0.05
    balanced = np.abs(above - below) / np.maximum(above + below, 1) < 0.3
    expected = np.flatnonzero(many & balanced).tolist()
    assert bt500(scores, raters, tracks, 20) == expected
    assert {1, 8} & set(expected)


def test_unanimous_raters_are_kept_whatever_they_did_with_gold_items_and_time() -> None:
    raters, tracks = np.divmod(np.arange(50), 10)
    failed = (np.repeat(np.arange(5), 3), np.tile([True, False, False], 5))
    seconds = np.repeat([26.0, 26.0, 26.0, 26.0, 9.0], 10)
    found = screen(np.full(50, 4), raters, tracks, 5, checks=failed, pages=(raters, tracks, seconds))
    assert found.num_failed.tolist() == [2] * 5
    assert found.hurried[4] == 1.0
    assert found.kept.all()


def test_two_raters_do_not_tell_how_long_a_page_takes() -> None:
    raters, tracks = np.divmod(np.arange(24), 12)
    scores = np.tile([1, 5, 2, 4, 3, 5, 1, 2, 4, 3, 5, 1], 2)
    found = screen(scores, raters, tracks, 2, pages=(raters, tracks, np.repeat([12.0, 26.0], 12)))
    assert found.hurried.tolist() == [0.0, 0.0]
    assert found.kept.all()
