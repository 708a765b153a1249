"""A few simulated studies: the analysis recovers what is true. benchmarks/study_simulation.py runs many."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def simulation() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "study_simulation.py"
    spec = importlib.util.spec_from_file_location("study_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["study_simulation"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tally(simulation: Any) -> Any:
    """40 studies of 60 raters, 12 % of whom do not listen."""
    return simulation.replicate(simulation.World(num_raters=60, num_mixtures=30), range(40), 200)


def test_the_truth_is_what_a_very_large_study_says(simulation: Any) -> None:
    world = simulation.World(num_raters=60, num_mixtures=30)
    known = simulation.truth(world)
    large = simulation.World(num_raters=1000, num_mixtures=400, spam=0.0)
    data, _ = simulation.simulate(large, 5)
    systems = {name: [] for name in large.systems}
    for vote in data.votes:
        if data.items[vote.item].role == "trial":
            systems[data.items[vote.item].system].append(vote.score)
    for name, scores in systems.items():
        assert np.mean(scores) == pytest.approx(known["mean", name], abs=0.1)


def test_no_system_is_swapped_beyond_its_interval_of_ranks(tally: Any) -> None:
    assert tally.swaps == 0
    # And not because nothing is told apart.
    assert np.mean(tally.wide) < 2


@pytest.mark.parametrize(
    "name", ["mean opinion", "difference of two systems", "Pearson, pooled", "Pearson, within", "Spearman, pooled"]
)
def test_intervals_hold_the_truth(tally: Any, name: str) -> None:
    # Three standard errors of 40 studies below 95 %.
    assert tally.coverage(name) >= 85
    assert tally.num_studies == 40


def test_intervals_of_independent_votes_would_not(tally: Any) -> None:
    assert tally.coverage("mean opinion, as if votes were independent") < 75


def test_spammers_are_found_and_careful_raters_kept(tally: Any) -> None:
    precision, recall = tally.precision_and_recall()
    assert precision > 85
    assert recall > 95
    assert set(tally.dropped) == {"careful", "random", "constant", "inverted"}
