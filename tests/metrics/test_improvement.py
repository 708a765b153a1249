from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from auriscope.metrics import sdr, sdri, si_snr, si_snri


@pytest.mark.parametrize(("improvement", "metric"), [(si_snri, si_snr), (sdri, sdr)])
def test_improvement_is_the_difference_to_the_mixture(
    improvement: object, metric: object, separated: tuple[Tensor, Tensor]
) -> None:
    assert callable(improvement)
    assert callable(metric)
    estimates, references = separated
    mixture = references.sum(1)
    lengths = torch.tensor([6000, 3000, 4500])
    values = improvement(estimates, references, mixture, lengths)
    for item, length in enumerate(lengths.tolist()):
        for source in range(2):
            reference = references[item, source, :length]
            expected = metric(estimates[item, source, :length], reference) - metric(mixture[item, :length], reference)
            assert values[item, source].item() == pytest.approx(expected.item(), abs=1e-3)


def test_the_mixture_itself_improves_nothing(separated: tuple[Tensor, Tensor]) -> None:
    references = separated[1]
    mixture = references.sum(1)
    values = si_snri(mixture.unsqueeze(1).expand(-1, 2, -1), references, mixture)
    torch.testing.assert_close(values, torch.zeros(3, 2), rtol=0, atol=1e-4)


def test_a_silent_reference_is_nan(separated: tuple[Tensor, Tensor]) -> None:
    estimates, references = separated[0], separated[1].clone()
    references[0, 0] = 0.0
    values = si_snri(estimates, references, references.sum(1) + 0.1)
    assert [math.isnan(value) for value in values.flatten().tolist()] == [True] + [False] * 5


def test_shapes_that_do_not_fit_are_refused(separated: tuple[Tensor, Tensor]) -> None:
    estimates, references = separated
    with pytest.raises(ValueError, match="mixture"):
        si_snri(estimates, references, references)
    with pytest.raises(ValueError, match="mixture"):
        sdri(estimates, references, references.sum(1)[:, :100])
