"""Adaptive S-norm against the same written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auriscope.errors import AuriscopeError
from auriscope.metrics import equal_error_rate
from auriscope.speaker.normalisation import ScoreNormaliser


def cosine(a, b) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("num_nearest", [None, 5, 100])
def test_it_is_what_it_says(num_nearest: int | None) -> None:
    rng = np.random.default_rng(0)
    cohort, first, second = rng.normal(size=(20, 6)), rng.normal(size=(3, 6)), rng.normal(size=(3, 6))
    normaliser = ScoreNormaliser(torch.from_numpy(cohort), num_nearest)
    found = normaliser(torch.from_numpy(first), torch.from_numpy(second))
    for row in range(3):
        parts = []
        for one in (first[row], second[row]):
            others = sorted((cosine(one, other) for other in cohort), reverse=True)[:num_nearest]
            parts.append((cosine(first[row], second[row]) - np.mean(others)) / np.std(others, ddof=1))
        assert found[row].item() == pytest.approx(np.mean(parts), rel=1e-4)


def test_recordings_of_two_kinds_are_told_apart_better() -> None:
    """Recordings by telephone are all alike: their cosines lie higher, whoever speaks."""
    rng = np.random.default_rng(1)
    telephone = 3 * rng.normal(size=32)

    def recorded(voice, kind: int):
        return voice + 0.5 * rng.normal(size=32) + kind * telephone

    voices = rng.normal(size=(60, 32))
    clips = [(speaker, kind, recorded(voices[speaker], kind)) for speaker in range(60) for kind in (0, 0, 1, 1)]
    pairs = [(a, b) for i, a in enumerate(clips) for b in clips[:i] if a[1] == b[1]]
    first, second = (torch.tensor(np.array([pair[side][2] for pair in pairs])).float() for side in (0, 1))
    targets = np.array([a[0] == b[0] for a, b in pairs])
    cohort = np.array([recorded(rng.normal(size=32), kind) for kind in (0, 1) for _ in range(100)])
    normaliser = ScoreNormaliser(torch.from_numpy(cohort), 50)
    raw = equal_error_rate(torch.nn.functional.cosine_similarity(first, second), targets).value
    assert equal_error_rate(normaliser(first, second), targets).value < 0.7 * raw


def test_the_order_of_a_pair_does_not_matter() -> None:
    a, b, cohort = (torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1, 2))
    normaliser = ScoreNormaliser(cohort)
    torch.testing.assert_close(normaliser(a, b), normaliser(b, a))


def test_a_cohort_too_small() -> None:
    with pytest.raises(AuriscopeError, match="two other people"):
        ScoreNormaliser(torch.ones(1, 4))
    with pytest.raises(AuriscopeError, match="num_nearest"):
        ScoreNormaliser(torch.ones(3, 4), 1)
