"""SI-SNR of every pair of an estimate and a reference from sums alone, each signal being read once.

:func:`~auriscope.metrics.pit.pairwise` evaluates a metric for all pairs, which for S sources passes S * S times over
the time axis, several times each. Of SI-SNR all that is needed is every signal's sum and energy and every pair's inner
product. In float64 their differences keep the whole range of the ratio (100 dB), and tile by tile they never leave the
cache; the gradient with regard to a signal is a weighted sum of the signals, one matrix product.

Where nothing cancels, sums in float32 do as well, in a third of the time: when no ratio is above 20 dB, no signal is
mostly offset, and none so quiet or loud that its square leaves the range. They are tried first on a CPU, where looking
at the result costs nothing, and taken if that holds. They are then off by less than 0.001 dB, and by 1e-6 of the
amplitude where estimate and reference have next to nothing in common.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from auriscope.metrics.ratios import check_shapes

_TILE = 1 << 19
"""Samples that are summed at once on a CPU: in float64, a few MiB."""
_SHORTEST_TILE, _LONGEST_TILE = 1 << 10, 1 << 15
"""Of a signal, in samples: sums in float32 over more would lose digits."""
_CANCELLING_DB = 20.0
"""From here on the energy of the error is less than a hundredth of what it is the difference of."""
_FAINTEST = 1e-25
"""The energy of a signal whose squared samples are well inside the range of float32."""


def pairwise_si_snr(
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
    *,
    zero_mean: bool = True,
    eps: float = 1e-10,
) -> Tensor:
    """SI-SNR in decibels of every estimate against every reference.

    Shapes: ``estimates`` (batch, E, time), ``references`` (batch, R, time), ``lengths`` (batch,); the result is
    (batch, E, R), equal to ``pairwise(si_snr, ...)`` up to rounding, with gradient. Silence, NaN, precision and errors
    are those of :func:`~auriscope.metrics.ratios.si_snr`.

    >>> import torch
    >>> references = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]])
    >>> pairwise_si_snr(references.flip(1), references).round().int().tolist()
    [[[-100, 100], [100, -100]]]
    """
    if estimates.dim() != 3 or references.dim() != 3:
        raise ValueError(
            f"estimates {tuple(estimates.shape)}, references {tuple(references.shape)}: not (batch, sources, time)"
        )
    check_shapes(estimates.unsqueeze(2), references.unsqueeze(1), lengths)
    dtype = torch.promote_types(torch.promote_types(estimates.dtype, references.dtype), torch.float32)
    num_estimates = estimates.shape[1]
    valid = None
    count = estimates.new_full((1, 1, 1), estimates.shape[-1], dtype=torch.float64)
    if lengths is not None:
        valid = torch.arange(references.shape[-1], device=references.device) < lengths.reshape(-1, 1, 1)
        count = lengths.reshape(-1, 1, 1).double()
    if dtype == torch.float32 and estimates.device.type == "cpu":
        totals, energies, products = _sums(estimates, references, valid, precise=False)[:3]
        least: Tensor | float = _FAINTEST
        if zero_mean:
            least = torch.clamp(energies / 2, min=_FAINTEST)
            energies, products = _centred(totals, energies, products, count)
        energy_e, energy_r = energies[:, :num_estimates, None], energies[:, None, num_estimates:]
        target = products.square() / energy_r
        floor = eps * energy_e
        values = 10 * ((target + floor) / (energy_e - target + floor)).log10()
        # NaN, of a sample or of a silent signal, is not below either.
        if bool((energies > least).all() & (values < _CANCELLING_DB).all()):
            return values.to(dtype)
    totals, energies, products, least, most = _sums(estimates, references, valid, precise=True)
    silences = _silent(totals, least, most, count.squeeze(-1), 64 * torch.finfo(dtype).eps, zero_mean)
    silent_e, silent_r = silences[:, :num_estimates, None], silences[:, None, num_estimates:]
    if zero_mean:
        energies, products = _centred(totals, energies, products, count.clamp(min=1))
    energy_e, energy_r = energies[:, :num_estimates, None], energies[:, None, num_estimates:]
    # Safe numbers where a signal is silent, and what is defined there over them afterwards.
    silent = silent_e | silent_r
    energy_e = torch.where(silent, 1.0, energy_e)
    target = torch.where(silent, 0.0, products).square() / torch.where(silent_r, 1.0, energy_r)
    floor = eps * energy_e
    values = 10 * ((target + floor).log10() - ((energy_e - target).clamp(min=0) + floor).log10())
    values = torch.where(silent_r | values.isinf(), torch.nan, values)
    return values.to(dtype)


def _sums(estimates: Tensor, references: Tensor, valid: Tensor | None, *, precise: bool) -> tuple[Tensor, ...]:
    """Totals, energies and extremes of the estimates, then of the references, (batch, E + R), and products."""
    sums: tuple[Tensor, ...] = _Sums.apply(estimates, references, valid, precise)  # type: ignore[no-untyped-call]
    return sums


def _centred(totals: Tensor, energies: Tensor, products: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Energies and products of what lies around the means."""
    num_estimates = products.shape[1]
    means = totals / count.squeeze(-1)
    energies = energies - totals * means
    return energies, products - totals[:, :num_estimates, None] * means[:, None, num_estimates:]


def _silent(totals: Tensor, least: Tensor, most: Tensor, count: Tensor, rounding: float, zero_mean: bool) -> Tensor:
    """Tell which signals (batch, signals) are silent, as ``ratios.is_silent`` does, from their sums and extremes."""
    peak = torch.maximum(most.abs(), least.abs())
    if not zero_mean:
        return (peak == 0) | (count == 0)
    mean = totals.detach() / count.clamp(min=1)
    return (torch.maximum(most - mean, mean - least) <= rounding * peak) | (count == 0)


class _Sums(torch.autograd.Function):
    """Sums and energies (batch, E + R), inner products (batch, E, R), least and largest values, all in float64.

    Of each tile they are summed in float64 if ``precise``, else as the signals are, and without the extremes.
    """

    @staticmethod
    def forward(
        ctx: Any, estimates: Tensor, references: Tensor, valid: Tensor | None, precise: bool
    ) -> tuple[Tensor, ...]:
        held = [estimates, references]
        if valid is not None:
            # What lies beyond the lengths must not count among the extremes: there, the first sample again.
            held = [torch.where(valid, signal, signal[..., :1]) for signal in held]
            estimates, references = (torch.where(valid, signal, 0.0) for signal in (estimates, references))
        ctx.save_for_backward(estimates, references, *([] if valid is None else [valid]))
        batch, num_estimates, time = estimates.shape
        num_signals = num_estimates + references.shape[1]
        width = time
        if estimates.device.type == "cpu":
            width = min(max(_SHORTEST_TILE, _TILE // max(1, batch * num_signals)), _LONGEST_TILE)
        dtype = torch.float64 if precise else torch.float32
        parts = []
        for begin in range(0, time, width):
            tiles = [signals[..., begin : begin + width].to(dtype) for signals in (estimates, references)]
            sums = torch.cat([tile.sum(-1) for tile in tiles], 1)
            norms = torch.cat([torch.linalg.vector_norm(tile, dim=-1) for tile in tiles], 1)
            parts.append((sums.double(), norms.double().square_(), (tiles[0] @ tiles[1].mT).double()))
        totals, energies, products = (sum(part[1:], part[0]) for part in zip(*parts, strict=True))
        if not precise:
            return totals, energies, products
        # Nothing is silent whose energy without its mean is more than what a silent signal could have: then the
        # extremes need not be known, and any that are not silent do. On other devices the question would wait.
        count = valid.sum(-1).double() if valid is not None else energies.new_full((1, 1), time)
        rounding = 64 * torch.finfo(torch.promote_types(estimates.dtype, torch.float32)).eps
        centred = energies - totals.square() / count.clamp(min=1)
        if estimates.device.type == "cpu" and bool((centred > count * rounding**2 * energies).all()):
            most = energies.sqrt()
            least = -most
        else:
            # Not aminmax, which along a dimension takes many times as long.
            least, most = (
                torch.cat([function(signal, -1) for signal in held], 1).double()
                for function in (torch.amin, torch.amax)
            )
        ctx.mark_non_differentiable(least, most)
        return totals, energies, products, least, most

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        estimates, references, *masks = ctx.saved_tensors
        totals, energies, products = gradients[:3]
        num_estimates = estimates.shape[1]
        results: list[Tensor | None] = [None, None]
        if ctx.needs_input_grad[0]:
            own = slice(None, num_estimates)
            results[0] = _gradient(estimates, references, totals[:, own], energies[:, own], products)
        if ctx.needs_input_grad[1]:
            own = slice(num_estimates, None)
            results[1] = _gradient(references, estimates, totals[:, own], energies[:, own], products.mT)
        if masks:
            results = [None if result is None else result * masks[0] for result in results]
        return results[0], results[1], None, None


def _gradient(own: Tensor, other: Tensor, of_total: Tensor, of_energy: Tensor, of_products: Tensor) -> Tensor:
    """Collect what changes a signal's sum, its energy, and its products with the others, (batch, sources, time)."""
    dtype = torch.promote_types(own.dtype, torch.float32)
    result: Tensor = of_products.to(dtype) @ other.to(dtype)
    result.addcmul_(own.to(dtype), 2 * of_energy.to(dtype).unsqueeze(-1))
    result.add_(of_total.to(dtype).unsqueeze(-1))
    return result.to(own.dtype)
