from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_noise_ratio

from auriscope.metrics import (
    best_permutation,
    is_silent,
    pairwise,
    permute,
    pit_loss,
    pit_pairwise,
    pit_si_snr,
    si_snr,
)


@pytest.mark.parametrize(("estimates", "references"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 6), (3, 2), (5, 3), (4, 1)])
@pytest.mark.parametrize("maximize", [True, False])
def test_brute_force_equals_hungarian(
    estimates: int, references: int, maximize: bool, generator: torch.Generator
) -> None:
    scores = 10 * torch.randn(40, estimates, references, generator=generator)
    brute = best_permutation(scores, maximize=maximize, method="brute")
    hungarian = best_permutation(scores, maximize=maximize, method="hungarian")
    assert brute.tolist() == hungarian.tolist()
    assert best_permutation(scores, maximize=maximize).tolist() == brute.tolist()
    # And equal to the definition, written out.
    choose = max if maximize else min
    for item, permutation in zip(scores.tolist(), brute.tolist(), strict=True):
        every = itertools.permutations(range(estimates), references)
        best = choose(every, key=lambda p, item=item: math.fsum(item[i][j] for j, i in enumerate(p)))
        assert list(best) == permutation


@pytest.mark.parametrize("num_sources", [2, 3])
def test_equal_torchmetrics(num_sources: int, generator: torch.Generator) -> None:
    references = torch.randn(8, num_sources, 500, generator=generator)
    order = torch.stack([torch.randperm(num_sources, generator=generator) for _ in range(8)])
    estimates = permute(references, order) + torch.randn(8, num_sources, 500, generator=generator)
    mean, permutation = permutation_invariant_training(
        estimates, references, scale_invariant_signal_noise_ratio, eval_func="max"
    )
    result = pit_si_snr(estimates, references)
    assert result.permutation.tolist() == permutation.tolist()
    torch.testing.assert_close(result.values.mean(1), mean, rtol=0, atol=1e-3)


def test_permute_undoes_any_order(generator: torch.Generator) -> None:
    references = torch.randn(6, 3, 200, generator=generator)
    order = torch.tensor(list(itertools.permutations(range(3))))
    shuffled = permute(references, order)
    result = pit_si_snr(shuffled, references)
    torch.testing.assert_close(permute(shuffled, result.permutation), references)
    # The permutation found is the inverse of the one applied.
    assert order.gather(1, result.permutation).tolist() == [[0, 1, 2]] * 6


def test_more_estimates_than_references_leave_the_worst_over(generator: torch.Generator) -> None:
    references = torch.randn(2, 2, 300, generator=generator)
    junk = torch.randn(2, 1, 300, generator=generator)
    estimates = torch.cat([references[:, 1:], junk, references[:, :1]], 1)
    result = pit_si_snr(estimates, references)
    assert result.permutation.tolist() == [[2, 0], [2, 0]]
    assert result.values.min() > 90


@pytest.mark.parametrize("method", ["brute", "hungarian"])
def test_nan_is_indifferent_and_infinity_counts(method: str) -> None:
    nan, inf = math.nan, math.inf
    scores = torch.tensor(
        [
            [[nan, -5.0], [nan, 5.0]],
            [[5.0, nan], [-5.0, nan]],
            [[-inf, 3.0], [-30.0, -40.0]],
            [[-1.0, inf], [-50.0, 2.0]],
        ]
    )
    assert best_permutation(scores, method=method).tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_pit_pairwise_carries_values_and_gradient() -> None:
    losses = torch.tensor([[[4.0, 1.0], [2.0, 9.0]]], requires_grad=True)
    result = pit_pairwise(losses, maximize=False)
    assert result.permutation.tolist() == [[1, 0]]
    result.values.sum().backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [[[0.0, 1.0], [1.0, 0.0]]]


def test_pit_loss_equals_pairwise_for_a_sum_over_pairs(generator: torch.Generator) -> None:
    references = torch.randn(10, 3, 80, generator=generator)
    estimates = torch.randn(10, 3, 80, generator=generator, requires_grad=True)
    value, permutation = pit_loss(lambda e, r: si_snr(e, r).sum(1), estimates, references, maximize=True)
    result = pit_pairwise(pairwise(si_snr, estimates, references))
    assert permutation.tolist() == result.permutation.tolist()
    torch.testing.assert_close(value, result.values.sum(1), rtol=0, atol=1e-3)
    (direct,) = torch.autograd.grad(value.sum(), estimates)
    (by_pairs,) = torch.autograd.grad(pit_si_snr(estimates, references).values.sum(), estimates)
    torch.testing.assert_close(direct, by_pairs, rtol=1e-3, atol=1e-4)


def test_pit_loss_takes_losses_that_are_no_sum_over_pairs() -> None:
    # The worst source decides: the best sum of pairs (0 + 10) has a worse worst pair than (6 + 6).
    table = torch.tensor([[0.0, 6.0], [6.0, 10.0]])

    def worst(estimates: Tensor, references: Tensor) -> Tensor:
        return table[estimates[..., 0], references[..., 0]].amax(1)

    sources = torch.tensor([[[0], [1]]])
    value, permutation = pit_loss(worst, sources, sources)
    assert value.tolist() == [6.0]
    assert permutation.tolist() == [[1, 0]]
    assert best_permutation(table.unsqueeze(0), maximize=False).tolist() == [[0, 1]]


def test_pit_loss_passes_nan_over_unless_all_are(generator: torch.Generator) -> None:
    references = torch.randn(2, 2, 10, generator=generator)

    def loss(estimates: Tensor, references: Tensor) -> Tensor:
        distance = (estimates - references).abs().sum((1, 2))
        return torch.where(distance == 0, math.nan, distance)

    value, permutation = pit_loss(loss, references, references)
    assert permutation.tolist() == [[1, 0], [1, 0]]
    assert value.isfinite().all()
    value, _ = pit_loss(lambda e, r: torch.full((2,), math.nan), references, references)
    assert value.isnan().all()


def test_a_silent_reference_does_not_disturb_the_other(generator: torch.Generator) -> None:
    references = torch.randn(1, 2, 400, generator=generator)
    references[0, 0] = 0.0
    estimates = torch.stack([references[0, 1], torch.randn(400, generator=generator)]).unsqueeze(0).requires_grad_()
    result = pit_si_snr(estimates, references)
    assert result.permutation.tolist() == [[1, 0]]
    assert result.values[0, 0].isnan()
    assert result.values[0, 1] > 90
    loss = -result.values[~is_silent(references)].mean()
    loss.backward()
    assert estimates.grad is not None
    assert estimates.grad.isfinite().all()


def test_lengths_reach_the_metric(generator: torch.Generator) -> None:
    references = torch.randn(2, 2, 400, generator=generator)
    estimates = references.flip(1).clone()
    estimates[1, :, 250:] = 100.0
    result = pit_si_snr(estimates, references, torch.tensor([400, 250]))
    assert result.permutation.tolist() == [[1, 0], [1, 0]]
    assert result.values.min() > 90


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="batch, sources, time"):
        pairwise(si_snr, torch.ones(2, 100), torch.ones(2, 100))
    with pytest.raises(ValueError, match="references <= estimates"):
        best_permutation(torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match="permutation"):
        permute(torch.ones(2, 3), torch.zeros(3, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="same sources"):
        pit_loss(lambda e, r: e.sum((1, 2)), torch.ones(1, 2, 5), torch.ones(1, 3, 5))
    with pytest.raises(ValueError, match="time"):
        pit_si_snr(torch.ones(1, 2, 5), torch.ones(1, 2, 6))
