"""Calibration against scikit-learn, and against people whom it has not seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained.files import CALIBRATION_NAME
from auriscope.speaker.calibration import Calibration, calibrate, fit_line, log_likelihood_ratio_cost


def trials(num_speakers: int = 30, seed: int = 0, spread: float = 0.7):
    """Cosines of two recordings of every speaker with each: (scores, targets, first, second)."""
    rng = np.random.default_rng(seed)
    voices = rng.normal(size=(num_speakers, 16))
    clips = [(f"s{s}", voices[s] + spread * rng.normal(size=16)) for s in range(num_speakers) for _ in range(2)]
    pairs = [(a, b) for i, a in enumerate(clips) for b in clips[:i]]
    scores = np.array([a[1] @ b[1] / np.linalg.norm(a[1]) / np.linalg.norm(b[1]) for a, b in pairs])
    first, second = [a[0] for a, _ in pairs], [b[0] for _, b in pairs]
    return scores, np.array(first) == np.array(second), first, second


@pytest.mark.parametrize("seed", range(3))
def test_the_line_is_that_of_scikit_learn(seed: int) -> None:
    scores, targets, _, _ = trials(seed=seed, spread=1.5)
    scale, offset = fit_line(scores, targets)
    theirs = LogisticRegression(C=1e8, class_weight="balanced", tol=1e-10, max_iter=10_000)
    theirs.fit(scores[:, None], targets)
    assert scale == pytest.approx(theirs.coef_[0, 0], rel=0.01)
    assert offset == pytest.approx(theirs.intercept_[0], rel=0.01)


def test_scores_without_an_error_give_a_finite_line() -> None:
    scale, offset = fit_line(np.array([0.9, 0.8, 0.1, 0.0]), np.array([True, True, False, False]))
    assert np.isfinite([scale, offset]).all()
    assert 0.1 < -offset / scale < 0.8


def test_what_it_says_holds_for_other_people() -> None:
    found = calibrate(*trials(40, seed=1))
    scores, targets, _, _ = trials(150, seed=2)
    same = scores > found.threshold
    assert np.mean(~same[targets]) == pytest.approx(found.miss, abs=0.08)
    assert np.mean(same[~targets]) == pytest.approx(found.false_alarm, abs=0.05)
    assert found.expected_error == pytest.approx((found.miss + found.false_alarm) / 2)
    # Ratios cost little more than the best that any line can do for the new people.
    best = fit_line(scores, targets)
    least = log_likelihood_ratio_cost(best[0] * scores + best[1], targets)
    assert log_likelihood_ratio_cost(found.log_likelihood_ratio(scores), targets) < 1.15 * least < 1.0


def test_the_threshold_is_where_both_are_equally_likely() -> None:
    found = calibrate(*trials())
    assert found.probability(found.threshold) == pytest.approx(0.5)
    assert found.probability(found.threshold + 10) == pytest.approx(1.0)
    assert found.log_likelihood_ratio([found.threshold, 1.0]).tolist() == pytest.approx(
        [0.0, found.scale + found.offset]
    )


def test_errors_are_those_of_people_whom_the_line_has_not_seen() -> None:
    """With few trials, a line fitted to those that it is measured on would look better than it is."""
    scores, targets, first, second = trials(8, seed=3, spread=2.0)
    found = calibrate(scores, targets, first, second)
    assert (found.num_speakers, found.num_targets, found.num_others) == (8, 8, 112)
    scale, offset = fit_line(scores, targets)
    wrong = (scale * scores + offset > 0) != targets
    assert found.expected_error > (wrong[targets].mean() + wrong[~targets].mean()) / 2


def test_it_is_written_and_read(tmp_path: Path) -> None:
    found = calibrate(*trials(), trials="made up", weights_sha256="abc")
    found.write(tmp_path / CALIBRATION_NAME)
    assert Calibration.read(tmp_path / CALIBRATION_NAME) == found
    assert Calibration.of(tmp_path, "abc") == found
    assert Calibration.of(tmp_path, "other weights") is None
    assert Calibration.of(tmp_path / "nothing", "abc") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [({"scale": -1.0}, "above zero"), ({"scale": "x"}, "not a valid"), ({"format_version": 9}, "not a calibration")],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "c.json"
    calibrate(*trials()).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        Calibration.read(path)
    with pytest.raises(CheckpointError, match="no such calibration"):
        Calibration.read(tmp_path / "other.json")


def test_what_cannot_be_calibrated() -> None:
    scores, targets, first, second = trials(7)
    with pytest.raises(AuriscopeError, match="8 speakers at least"):
        calibrate(scores, targets, first, second)
    scores, targets, first, second = trials(20)
    with pytest.raises(AuriscopeError, match="nothing to calibrate"):
        calibrate(-scores, targets, first, second)
    with pytest.raises(AuriscopeError, match="both kinds"):
        calibrate(scores, targets | True, first, second)


def test_the_cost_of_ratios() -> None:
    """Against the definition, and what it must be for ratios that are right."""
    rng = np.random.default_rng(0)
    # Normal scores of means +m and -m and variance 2m are their own log-likelihood ratios.
    ratios = np.concatenate([rng.normal(2.0, 2.0, 20_000), rng.normal(-2.0, 2.0, 20_000)])
    targets = np.arange(40_000) < 20_000
    cost = log_likelihood_ratio_cost(ratios, targets)
    expected = 0.5 * (np.mean(np.log2(1 + np.exp(-ratios[targets]))) + np.mean(np.log2(1 + np.exp(ratios[~targets]))))
    assert cost == pytest.approx(expected)
    assert fit_line(ratios, targets) == pytest.approx((1.0, 0.0), abs=0.03)
    assert log_likelihood_ratio_cost(2 * ratios, targets) > cost
    assert log_likelihood_ratio_cost(ratios + 1, targets) > cost
