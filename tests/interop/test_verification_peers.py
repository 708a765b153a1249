"""Equal error rate and detection cost beside SpeechBrain's, on the same scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from auriscope.metrics import equal_error_rate, min_dcf

from .conftest import run_peers

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = run_peers("peer_verification.py", tmp_path_factory.mktemp("verification"))
    found: list[dict[str, object]] = json.loads((folder / "verification.json").read_text())
    return found


@pytest.mark.parametrize("number", range(8))
def test_figures_are_the_same(cases: list[dict[str, object]], number: int) -> None:
    case = cases[number]
    scores = np.array([*case["targets"], *case["others"]])  # type: ignore[misc]
    targets = np.arange(len(scores)) < 37
    found = equal_error_rate(scores, targets)
    assert found.value == pytest.approx(case["eer"], abs=1e-6)
    accepted = scores > case["eer_threshold"]
    assert (np.mean(~accepted[targets]), np.mean(accepted[~targets])) == (found.miss, found.false_alarm)
    prior = float(case["prior"])  # type: ignore[arg-type]
    # Theirs is not divided by the cost of accepting all or none, and knows no threshold that accepts all.
    cost = min_dcf(scores, targets, target_prior=prior, miss_cost=2.0).value * min(2.0 * prior, 1.0 - prior)
    assert cost == pytest.approx(min(case["min_dcf"], 1.0 - prior), abs=1e-6)  # type: ignore[type-var]
