"""Improvements: how much better an estimate is than the mixture it was made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from auriscope.metrics.bss import sdr
from auriscope.metrics.ratios import si_snr


def improvement(
    metric: Callable[..., Tensor],
    estimates: Tensor,
    references: Tensor,
    mixture: Tensor,
    lengths: Tensor | None = None,
    **options: Any,
) -> Tensor:
    r"""Improvement of a metric over the mixture: :math:`m(\hat s, s) - m(x, s)`.

    Shapes: ``estimates`` and ``references`` (batch, sources, time), in the same order, ``mixture`` (batch, time),
    ``lengths`` (batch,) int64; the result is (batch, sources). ``options`` are the metric's. Raises ``ValueError`` when
    the shapes do not fit. NaN where either value is NaN: for silent references.

    >>> import torch
    >>> from auriscope.metrics.ratios import snr
    >>> sources = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [2.0, 2.0, -2.0, -2.0]]])
    >>> improvement(snr, 0.9 * sources, sources, sources.sum(1)).round().tolist()
    [[26.0, 14.0]]
    """
    if mixture.dim() != 2 or mixture.shape != references.shape[:1] + references.shape[2:]:
        raise ValueError(f"the mixture {tuple(mixture.shape)} is not that of the references {tuple(references.shape)}")
    return metric(estimates, references, lengths, **options) - metric(
        mixture.unsqueeze(1), references, lengths, **options
    )


def si_snri(
    estimates: Tensor,
    references: Tensor,
    mixture: Tensor,
    lengths: Tensor | None = None,
    *,
    zero_mean: bool = True,
    eps: float = 1e-10,
) -> Tensor:
    """Improvement in SI-SNR over the mixture in decibels; shapes and errors are those of :func:`improvement`.

    >>> import torch
    >>> sources = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [2.0, 2.0, -2.0, -2.0]]])
    >>> si_snri(sources + 0.1 * sources.flip(1), sources, sources.sum(1)).round().tolist()
    [[20.0, 20.0]]
    """
    return improvement(si_snr, estimates, references, mixture, lengths, zero_mean=zero_mean, eps=eps)


def sdri(
    estimates: Tensor,
    references: Tensor,
    mixture: Tensor,
    lengths: Tensor | None = None,
    *,
    filter_length: int = 512,
    eps: float = 1e-10,
) -> Tensor:
    """Improvement in BSS-eval SDR over the mixture in decibels; shapes and errors are those of :func:`improvement`.

    >>> import torch
    >>> sources = torch.randn(1, 2, 4000, generator=torch.Generator().manual_seed(0))
    >>> bool((sdri(sources + 0.1 * sources.flip(1), sources, sources.sum(1)) > 10).all())
    True
    """
    return improvement(sdr, estimates, references, mixture, lengths, filter_length=filter_length, eps=eps)
