"""The objective that nearly every separator is trained for: SI-SNR under the best permutation, clipped from above."""

from __future__ import annotations

import torch
from torch import Tensor

from auriscope.metrics.pit import pit_si_snr
from auriscope.metrics.ratios import is_silent, si_snr


def clip_db(values: Tensor, limit: float) -> Tensor:
    """Flatten values (any shape, dB) above ``limit`` to a thousandth of their slope.

    A pair that is separated that well still holds on, but the others come first. Zeghidour and Grangier, Wavesplit
    (arXiv 2002.08933), section 3.3, clip altogether.
    """
    return torch.where(values > limit, limit + 1e-3 * (values - limit), values)


def pit_objective(
    estimates: Tensor, sources: Tensor, mixture: Tensor, *, max_si_snr_db: float = 30.0
) -> dict[str, Tensor]:
    """Minus the mean clipped SI-SNR over the audible sources, under the best permutation, and their improvement.

    Shapes: ``estimates`` and ``sources`` (batch, sources, time), ``mixture`` (batch, time). Gives the scalars ``loss``,
    in negative dB, and ``si_snri_db``, without gradient. Kolbæk et al. 2017 (arXiv 1703.06284), section IV.
    """
    values = pit_si_snr(estimates.float(), sources).values
    return si_snr_objective(values, sources, mixture, max_si_snr_db=max_si_snr_db)


def si_snr_objective(
    values: Tensor, sources: Tensor, mixture: Tensor, lengths: Tensor | None = None, *, max_si_snr_db: float = 30.0
) -> dict[str, Tensor]:
    """What :func:`pit_objective` gives, from the SI-SNR ``values`` (batch, sources) of matched estimates, in dB.

    ``lengths`` (batch,) are the valid samples of the ``sources`` and the ``mixture``; None: all are.
    """
    audible = ~is_silent(sources, lengths)
    values = torch.where(audible, values, torch.zeros_like(values))
    count = audible.sum().clamp(min=1)
    with torch.no_grad():
        before = torch.where(audible, si_snr(mixture[:, None].expand_as(sources), sources, lengths), 0.0)
        improvement = (values.detach() - before).sum() / count
    return {"loss": -clip_db(values, max_si_snr_db).sum() / count, "si_snri_db": improvement}
