"""Agreement of raters: against published examples, the package krippendorff, and pingouin."""

from __future__ import annotations

import krippendorff
import numpy as np
import pandas
import pingouin
import pytest

from auriscope.metrics.agreement import (
    intraclass_correlation,
    krippendorff_alpha,
    krippendorff_interval,
    vote_counts,
)

# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C: four observers, twelve units.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]
# Shrout and Fleiss, "Intraclass correlations" (1979), table 2: six targets, four judges.
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_that_of_the_paper(level: str, published: float) -> None:
    table = np.array(OBSERVERS)
    _, units = np.nonzero(table)
    counts = vote_counts(table[table > 0], units)
    assert krippendorff_alpha(counts, level) == pytest.approx(published, abs=0.0005)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_that_of_the_package(level: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.clip(rng.integers(1, 6, 30)[None, :] + rng.integers(-1, 2, (8, 30)), 1, 5).astype(float)
    table[rng.random(table.shape) < 0.5] = np.nan
    theirs = krippendorff.alpha(table, level_of_measurement=level, value_domain=[1, 2, 3, 4, 5])
    raters, units = np.nonzero(np.isfinite(table))
    assert krippendorff_alpha(vote_counts(table[raters, units], units), level) == pytest.approx(theirs)


def test_alpha_of_the_same_votes_only_is_not_a_number_but_none() -> None:
    assert krippendorff_alpha([[0, 0, 0, 4, 0], [0, 0, 0, 3, 0]]) is None
    assert krippendorff_alpha([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]) is None
    assert krippendorff_interval([[0, 0, 0, 4, 0]], ["one"]).value is None


def test_alphas_interval_holds_alpha_of_many_mixtures() -> None:
    def table(rng: np.random.Generator, mixtures: int) -> tuple[np.ndarray, np.ndarray]:
        mixture = np.repeat(np.arange(mixtures), 2)
        heard = 3 + rng.standard_normal(mixtures)[mixture] + 0.3 * rng.standard_normal(len(mixture))
        scores = np.clip(np.round(heard[:, None] + rng.standard_normal((len(mixture), 6))), 1, 5)
        return vote_counts(scores.ravel(), np.repeat(np.arange(len(mixture)), 6)), mixture

    true = krippendorff_alpha(table(np.random.default_rng(99), 20_000)[0])
    held = 0
    for seed in range(200):
        found = krippendorff_interval(*table(np.random.default_rng(seed), 60), num_resamples=300, seed=seed)
        held += found.low <= true <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_icc_is_that_of_shrout_and_fleiss() -> None:
    targets, judges = np.indices(JUDGES.shape)
    found = intraclass_correlation(JUDGES.ravel(), judges.ravel(), targets.ravel())
    assert found.single == pytest.approx(0.29, abs=0.005)
    assert found.average == pytest.approx(0.62, abs=0.005)
    assert (found.votes_per_target, found.num_targets, found.num_raters) == (4.0, 6, 4)
    assert found.is_complete


@pytest.mark.parametrize("seed", range(4))
def test_icc_is_that_of_pingouin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 6, (9, 1)) + rng.integers(-1, 2, (9, 5)) + rng.integers(0, 2, (1, 5))
    targets, raters = np.indices(scores.shape)
    frame = pandas.DataFrame({"target": targets.ravel(), "rater": raters.ravel(), "score": scores.ravel()})
    table = pingouin.intraclass_corr(frame, targets="target", raters="rater", ratings="score").set_index("Type")
    found = intraclass_correlation(scores.ravel(), raters.ravel(), targets.ravel())
    assert found.single == pytest.approx(table["ICC"]["ICC(A,1)"])
    assert found.average == pytest.approx(table["ICC"]["ICC(A,k)"])


def test_variances_of_incomplete_votes_are_right_on_average() -> None:
    rng = np.random.default_rng(8)
    variances, singles = [], []
    for _ in range(150):
        table = (
            3 + rng.standard_normal((60, 1)) + 0.5 * rng.standard_normal((1, 40)) + 0.8 * rng.standard_normal((60, 40))
        )
        targets, raters = np.nonzero(rng.random(table.shape) < 0.15)
        found = intraclass_correlation(table[targets, raters], raters, targets)
        assert not found.is_complete
        variances.append((found.target_variance, found.rater_variance, found.rest_variance))
        singles.append(found.single)
    assert np.mean(variances, axis=0) == pytest.approx([1.0, 0.25, 0.64], rel=0.08)
    assert np.mean(singles) == pytest.approx(1.0 / 1.89, rel=0.05)


def test_icc_is_none_where_raters_cannot_be_told_from_targets() -> None:
    assert intraclass_correlation([3, 4], [0, 0], [0, 1]).single is None
    assert intraclass_correlation([3, 4, 5, 2], [0, 0, 1, 1], [0, 1, 2, 3]).single is None
    assert intraclass_correlation([3, 3, 3, 3], [0, 0, 1, 1], [0, 1, 0, 1]).single is None
    assert intraclass_correlation([], [], []).single is None
