from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import norm

from auriscope.metrics import Accumulator, summarize, summarize_ratio


def test_interval_is_near_the_normal_one_for_independent_values() -> None:
    values = np.random.default_rng(3).normal(10.0, 2.0, 400)
    summary = summarize(values)
    half = norm.ppf(0.975) * values.std() / math.sqrt(len(values))
    assert summary.mean == pytest.approx(values.mean())
    assert summary.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert summary.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_interval_widens_when_values_share_clusters() -> None:
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(20), 15)
    values = rng.normal(0.0, 3.0, 20)[clusters] + rng.normal(0.0, 0.1, 300)
    plain, clustered = summarize(values), summarize(values, clusters.tolist())
    assert plain.mean == clustered.mean
    assert plain.low is not None
    assert plain.high is not None
    assert clustered.low is not None
    assert clustered.high is not None
    # With nearly equal values inside, 20 clusters count as 20 values and not 300: sqrt(15) = 3.9 times as wide.
    assert 3.0 < (clustered.high - clustered.low) / (plain.high - plain.low) < 5.0


def test_coverage_of_the_cluster_interval() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for trial in range(100):
        clusters = np.repeat(np.arange(40), 5)
        values = rng.normal(0.0, 1.0, 40)[clusters] + rng.normal(0.0, 1.0, 200)
        summary = summarize(values, clusters.tolist(), num_resamples=300, seed=trial)
        assert summary.low is not None
        assert summary.high is not None
        covered += summary.low <= 0.0 <= summary.high
    assert 87 <= covered <= 100


def test_the_same_seed_gives_the_same_interval() -> None:
    values = list(range(30))
    assert summarize(values, seed=1) == summarize(values, seed=1)
    assert summarize(values, seed=1) != summarize(values, seed=2)


def test_nan_is_left_out_and_counted_and_few_values_have_no_interval() -> None:
    empty = summarize([math.nan, math.nan])
    assert (empty.mean, empty.low, empty.high, empty.num_values, empty.num_excluded) == (None, None, None, 0, 2)
    single = summarize([3.0, math.nan])
    assert (single.mean, single.low, single.num_values, single.num_excluded) == (3.0, None, 1, 1)
    one_cluster = summarize([3.0, 5.0, 1.0], ["a", "a", "a"])
    assert (one_cluster.mean, one_cluster.low) == (3.0, None)
    equal = summarize([2.0, 2.0, 2.0])
    assert (equal.low, equal.high) == (2.0, 2.0)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="infinite"):
        summarize([1.0, math.inf])
    with pytest.raises(ValueError, match="clusters"):
        summarize([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="list of numbers"):
        summarize(np.ones((2, 2)))


def test_accumulator_gathers_batches_of_sources_with_their_clusters() -> None:
    accumulator = Accumulator()
    first = torch.tensor([[1.0, 2.0], [math.nan, 4.0]], requires_grad=True)
    accumulator.update({"si_snr_db": first, "sdr_db": first + 1}, clusters=["a", "b"])
    accumulator.update({"si_snr_db": torch.tensor([[8.0, 9.0]]), "sdr_db": torch.zeros(1, 2)}, clusters=["a"])
    assert accumulator.means() == {"si_snr_db": pytest.approx(24 / 5), "sdr_db": pytest.approx(10 / 5)}
    expected = summarize([1.0, 2.0, math.nan, 4.0, 8.0, 9.0], ["a", "a", "b", "b", "a", "a"])
    assert accumulator.compute()["si_snr_db"] == expected
    assert expected.num_excluded == 1


def test_accumulator_of_nothing_and_of_nan_alone() -> None:
    accumulator = Accumulator()
    assert accumulator.means() == {}
    assert accumulator.compute() == {}
    accumulator.update({"x": [math.nan]})
    assert accumulator.means() == {"x": None}


def test_accumulator_refuses_batches_that_do_not_agree() -> None:
    accumulator = Accumulator()
    accumulator.update({"x": [1.0, 2.0]}, clusters=["a", "b"])
    with pytest.raises(ValueError, match="names its clusters"):
        accumulator.update({"x": [1.0]})
    with pytest.raises(ValueError, match="this batch has y"):
        accumulator.update({"y": [1.0]}, clusters=["a"])
    with pytest.raises(ValueError, match="clusters were given"):
        accumulator.update({"x": [1.0]}, clusters=["a", "b"])
    with pytest.raises(ValueError, match="must all be"):
        accumulator.update({"x": [1.0], "y": [1.0, 2.0]}, clusters=["a"])
    assert accumulator.means() == {"x": 1.5}


def test_the_package_and_the_accumulators_need_no_torch() -> None:
    code = (
        "import sys; import auriscope.metrics; from auriscope.metrics import summarize; "
        "assert summarize([1.0, 2.0]).mean == 1.5; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_ratio_is_of_sums_and_its_interval_widens_with_clusters() -> None:
    rng = np.random.default_rng(6)
    speakers = np.repeat(np.arange(25), 12)
    words = rng.integers(1, 30, 300)
    edits = rng.binomial(words, rng.uniform(0.0, 0.6, 25)[speakers])
    plain, clustered = summarize_ratio(edits, words), summarize_ratio(edits, words, speakers.tolist())
    assert plain.mean == clustered.mean == pytest.approx(edits.sum() / words.sum())
    assert None not in (plain.low, plain.high, clustered.low, clustered.high)
    # The delta method's standard error of a ratio, over utterances and over speakers.
    for summary, groups in ((plain, np.arange(300)), (clustered, speakers)):
        above, below = np.bincount(groups, edits), np.bincount(groups, words)
        error = np.sqrt(np.sum((above - plain.mean * below) ** 2)) / below.sum()
        assert summary.high - summary.low == pytest.approx(2 * norm.ppf(0.975) * error, rel=0.12)
    assert clustered.high - clustered.low > 1.5 * (plain.high - plain.low)


def test_ratios_that_are_none() -> None:
    assert summarize_ratio([1, 2], [0, 0]).mean is None
    assert summarize_ratio([1], [2]).low is None
    assert summarize_ratio([1, 2], [2, 2], ["a", "a"]).high is None
    # An utterance without words that were said still counts with what was heard in it.
    assert summarize_ratio([3, 1], [0, 4]).mean == 1.0
    for arguments in (([1], [1, 2]), ([1, math.inf], [1, 1]), ([1], [-1]), ([1, 2], [1, 1], ["a"])):
        with pytest.raises(ValueError, match=r"numerators|finite|clusters"):
            summarize_ratio(*arguments)
