from __future__ import annotations

import itertools
import math

import fast_bss_eval
import mir_eval
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_noise_ratio

from auriscope.metrics import (
    best_permutation,
    is_silent,
    pairs,
    pairwise,
    permute,
    pit_loss,
    pit_pairwise,
    pit_si_snr,
    si_snr,
)
from auriscope.metrics.pairs import pairwise_si_snr


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


@pytest.mark.parametrize("num_sources", [2, 3, 5, 10])
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


def _by_pairs(estimates: Tensor, references: Tensor, lengths: Tensor | None, zero_mean: bool) -> Tensor:
    return pairwise(lambda e, r, n: si_snr(e, r, n, zero_mean=zero_mean), estimates, references, lengths)


@pytest.mark.parametrize("zero_mean", [True, False])
@pytest.mark.parametrize("lengths", [None, [70_000, 1, 0, 35_001, 2]])
def test_sums_give_what_evaluating_every_pair_gives(
    lengths: list[int] | None, zero_mean: bool, generator: torch.Generator
) -> None:
    # More than one tile; leakage from none to much; loud, quiet, shifted, silent and constant signals.
    references = torch.randn(5, 2, 70_000, generator=generator)
    estimates = torch.cat([references.flip(1), references.sum(1, keepdim=True)], 1)
    estimates = estimates + torch.tensor([0.0, 1e-4, 0.1, 1.0, 10.0]).reshape(5, 1, 1) * torch.randn(
        5, 3, 70_000, generator=generator
    )
    estimates[0] *= 1e-20
    references[1] += 5.0
    references[3, 0] = 0.0
    references[3, 1] = 0.7
    estimates[4, 0] = 0.0
    estimates[4, 1] = 0.3
    estimates[2, 2, 5] = math.nan
    count = None if lengths is None else torch.tensor(lengths)
    slow = _by_pairs(estimates.double(), references.double(), count, zero_mean)
    fast = pairwise_si_snr(estimates, references, count, zero_mean=zero_mean)
    assert fast.dtype == torch.float32
    assert slow.isnan().tolist() == fast.isnan().tolist()
    torch.testing.assert_close(fast.double(), slow, atol=0.01, rtol=0, equal_nan=True)


@pytest.mark.parametrize("level_db", [-20.0, 0.0, 19.0])
def test_sums_in_single_precision_are_taken_where_they_do(
    level_db: float, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four minutes at 8 kHz, of several tiles, with an offset just below what is refused.
    references = torch.randn(1, 2, 2_000_000, generator=generator)
    noise = torch.randn(1, 2, 2_000_000, generator=generator)
    estimates = (references + 10 ** (-level_db / 20) * noise) * torch.tensor([1e-6, 1e3]).reshape(1, 2, 1)
    references = references + 0.9
    slow = _by_pairs(estimates.double(), references.double(), None, True)
    taken = []
    summed = pairs._sums
    monkeypatch.setattr(
        pairs, "_sums", lambda *signals, precise: taken.append(precise) or summed(*signals, precise=precise)
    )
    fast = pairwise_si_snr(estimates, references)
    assert taken == [False]
    matched = torch.eye(2, dtype=torch.bool)
    torch.testing.assert_close(fast[0][matched].double(), slow[0][matched], atol=1e-3, rtol=0)
    # What is left between strangers is told to 1e-6 of the amplitude.
    amplitudes = [10 ** (values[0][~matched].double() / 20) for values in (fast, slow)]
    torch.testing.assert_close(*amplitudes, atol=1e-6, rtol=0)
    pairwise_si_snr(estimates, references + 1.0)
    assert taken == [False, False, True]


@pytest.mark.parametrize("zero_mean", [True, False])
def test_sums_give_the_gradient_of_every_pair(zero_mean: bool, generator: torch.Generator) -> None:
    references = torch.randn(2, 3, 400, generator=generator, dtype=torch.float64)
    estimates = references + torch.randn(2, 3, 400, generator=generator, dtype=torch.float64)
    references[0, 1] = 0.0
    estimates[1, 0] = 0.0
    signals = (estimates.requires_grad_(), references.requires_grad_())
    weights = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([400, 250])
    found = []
    for metric in (_by_pairs(*signals, lengths, zero_mean), pairwise_si_snr(*signals, lengths, zero_mean=zero_mean)):
        total = (weights * metric).nan_to_num().sum()
        found.append(torch.autograd.grad(total, signals))
    for slow, fast in zip(*found, strict=True):
        assert fast.isfinite().all()
        torch.testing.assert_close(fast, slow, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("num_sources", [2, 3])
def test_equal_mir_eval_and_fast_bss_eval(num_sources: int, generator: torch.Generator) -> None:
    # A filter of one tap is a scale: the SDR of both is then SI-SNR without removal of the mean.
    references = torch.randn(1, num_sources, 900, generator=generator, dtype=torch.float64)
    estimates = permute(references, torch.randperm(num_sources, generator=generator).unsqueeze(0))
    estimates = estimates + 0.7 * torch.randn(estimates.shape, generator=generator, dtype=torch.float64)
    result = pit_pairwise(pairwise_si_snr(estimates, references, zero_mean=False))
    values, order = fast_bss_eval.si_sdr(references.numpy(), estimates.numpy(), zero_mean=False, return_perm=True)
    torch.testing.assert_close(result.values, torch.from_numpy(values), atol=1e-4, rtol=0)
    assert result.permutation.tolist() == order.tolist()
    _, _, _, order = mir_eval.separation.bss_eval_sources(references[0].numpy(), estimates[0].numpy())
    assert result.permutation[0].tolist() == order.tolist()
