"""Permutations: which estimate belongs to which reference, and losses that do not depend on their order.

``scores[b, i, j]`` is how well estimate ``i`` matches reference ``j``; a ``permutation`` (batch, references) holds at
``[b, j]`` the estimate that belongs to reference ``j``: :func:`permute` puts estimates in the references' order.

Source: Yu et al., "Permutation invariant training of deep models for speaker-independent multi-talker speech
separation" (ICASSP 2017); Kolbæk et al., "Multitalker speech separation with utterance-level PIT" (2017), section IV.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from auriscope.metrics.pairs import pairwise_si_snr

Method = Literal["auto", "brute", "hungarian"]
_BRUTE_LIMIT = 4
"""Up to 24 permutations are scored at once on the device; beyond, the polynomial method is quicker."""


@dataclass(frozen=True)
class PitResult:
    """``values`` (batch, references) of the matched pairs, and the ``permutation`` (batch, references) that matched."""

    values: Tensor
    permutation: Tensor


def pairwise(
    metric: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Score every estimate against every reference.

    ``metric(estimates, references, lengths)`` takes (..., time) that broadcast and gives the leading shape, as every
    ratio of :mod:`auriscope.metrics` does. Shapes: ``estimates`` (batch, E, time), ``references`` (batch, R, time),
    ``lengths`` (batch,); the result is (batch, E, R). Raises ``ValueError`` for other ranks.

    >>> import torch
    >>> from auriscope.metrics import si_snr
    >>> references = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]])
    >>> pairwise(si_snr, references.flip(1), references).round().int().tolist()
    [[[-100, 100], [100, -100]]]
    """
    if estimates.dim() != 3 or references.dim() != 3:
        raise ValueError(
            f"estimates {tuple(estimates.shape)}, references {tuple(references.shape)}: not (batch, sources, time)"
        )
    return metric(estimates.unsqueeze(2), references.unsqueeze(1), lengths)


def best_permutation(scores: Tensor, *, maximize: bool = True, method: Method = "auto") -> Tensor:
    """Find the assignment of estimates to references with the best sum of scores.

    ``scores`` is (batch, E, R) with E >= R: estimates that match nothing are left over. The result is (batch, R) int64
    on the device of the scores, without gradient. NaN (a silent reference, say) counts as indifferent. ``"brute"``
    scores all ``E! / (E - R)!`` permutations, the first of equal ones winning; ``"hungarian"`` solves the assignment in
    polynomial time on the CPU (scipy); ``"auto"`` takes the former up to four estimates. Raises ``ValueError`` for
    other shapes.

    >>> import torch
    >>> best_permutation(torch.tensor([[[-3.0, 12.0], [10.0, 1.0]]])).tolist()
    [[1, 0]]
    """
    if scores.dim() != 3 or scores.shape[1] < scores.shape[2] or scores.shape[2] == 0:
        raise ValueError(f"scores {tuple(scores.shape)}: not (batch, estimates, references), references <= estimates")
    # Infinities would make every sum that holds one equal (or NaN); 1e9 dB is as good, and adds up.
    scores = torch.nan_to_num(scores.detach().double(), nan=0.0, posinf=1e9, neginf=-1e9)
    if not maximize:
        scores = -scores
    if method == "brute" or (method == "auto" and scores.shape[1] <= _BRUTE_LIMIT):
        return _brute_force(scores)
    return _hungarian(scores)


def permute(estimates: Tensor, permutation: Tensor) -> Tensor:
    """Put estimates in the references' order.

    Shapes: ``estimates`` (batch, E, ...), ``permutation`` (batch, R); the result is (batch, R, ...).

    >>> import torch
    >>> permute(torch.tensor([[10.0, 20.0]]), torch.tensor([[1, 0]])).tolist()
    [[20.0, 10.0]]
    """
    if permutation.dim() != 2 or estimates.shape[:1] != permutation.shape[:1]:
        raise ValueError(f"the permutation {tuple(permutation.shape)} is not that of {tuple(estimates.shape)}")
    index = permutation.reshape(*permutation.shape, *(1,) * (estimates.dim() - 2))
    return estimates.gather(1, index.expand(*permutation.shape, *estimates.shape[2:]))


def pit_pairwise(scores: Tensor, *, maximize: bool = True, method: Method = "auto") -> PitResult:
    """Match estimates to references by their pairwise scores or, with ``maximize=False``, losses.

    ``scores`` is (batch, E, R); the values carry its gradient, and NaN where the matched score is NaN.

    >>> import torch
    >>> pit_pairwise(torch.tensor([[[-3.0, 12.0], [10.0, 1.0]]])).values.tolist()
    [[10.0, 12.0]]
    """
    permutation = best_permutation(scores, maximize=maximize, method=method)
    return PitResult(scores.gather(1, permutation.unsqueeze(1)).squeeze(1), permutation)


def pit_loss(
    loss: Callable[[Tensor, Tensor], Tensor], estimates: Tensor, references: Tensor, *, maximize: bool = False
) -> tuple[Tensor, Tensor]:
    """Give the best value of any loss over all joint permutations of the estimates.

    ``loss(estimates, references)`` takes the sources together, (batch, sources, ...) both, and gives (batch,); it need
    not be a sum over pairs. Returns the value (batch,), with gradient, and the permutation (batch, sources). All S!
    permutations are evaluated: for a loss that is a sum over pairs, :func:`pit_pairwise` needs S * S evaluations only.
    NaN is never the best of several, and stays when all are NaN.

    >>> import torch
    >>> references = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    >>> value, permutation = pit_loss(lambda e, r: (e - r).square().mean((1, 2)), references.flip(1), references)
    >>> value.tolist(), permutation.tolist()
    ([0.0], [[1, 0]])
    """
    if estimates.dim() < 2 or estimates.shape[:2] != references.shape[:2]:
        raise ValueError(
            f"estimates {tuple(estimates.shape)} and references {tuple(references.shape)} must have the same sources"
        )
    permutations = _all_permutations(estimates.shape[1], estimates.shape[1], estimates.device)
    values = torch.stack([loss(estimates[:, permutation], references) for permutation in permutations], dim=1)
    worst = -torch.inf if maximize else torch.inf
    ranked = torch.where(values.isnan(), worst, values.detach())
    best = ranked.argmax(1) if maximize else ranked.argmin(1)
    return values.gather(1, best.unsqueeze(1)).squeeze(1), permutations[best]


def pit_si_snr(
    estimates: Tensor, references: Tensor, lengths: Tensor | None = None, *, zero_mean: bool = True, eps: float = 1e-10
) -> PitResult:
    """SI-SNR of the matched pairs, in the references' order, under the best permutation.

    Shapes: ``estimates`` (batch, E, time), ``references`` (batch, R, time), ``lengths`` (batch,); the values are
    (batch, R) in decibels, NaN for silent references (see :mod:`auriscope.metrics.ratios`). As a training loss take
    ``-values[~is_silent(references, lengths)].mean()``, so that a NaN of the network itself is still seen.

    >>> import torch
    >>> references = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]])
    >>> result = pit_si_snr(0.5 * references.flip(1), references)
    >>> result.permutation.tolist(), result.values.round().tolist()
    ([[1, 0]], [[100.0, 100.0]])
    """
    return pit_pairwise(pairwise_si_snr(estimates, references, lengths, zero_mean=zero_mean, eps=eps))


def _all_permutations(num_estimates: int, num_references: int, device: torch.device) -> Tensor:
    """Every way to pick and order ``num_references`` of the estimates, (permutations, references)."""
    return torch.tensor(list(itertools.permutations(range(num_estimates), num_references)), device=device)


def _brute_force(scores: Tensor) -> Tensor:
    num_estimates, num_references = scores.shape[1:]
    permutations = _all_permutations(num_estimates, num_references, scores.device)
    sums = scores[:, permutations, torch.arange(num_references, device=scores.device)].sum(-1)
    return permutations[sums.argmax(-1)]


def _hungarian(scores: Tensor) -> Tensor:
    # scipy wants one matrix at a time; with references as rows, the columns come out in the references' order.
    matrices = scores.transpose(1, 2).cpu().numpy()
    columns = [linear_sum_assignment(matrix, maximize=True)[1] for matrix in matrices]
    return torch.from_numpy(np.array(columns, dtype=np.int64).reshape(len(columns), scores.shape[2])).to(scores.device)
