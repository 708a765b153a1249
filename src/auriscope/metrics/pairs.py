"""SI-SNR of every pair of an estimate and a reference from sums alone, each signal being read once.

:func:`~auriscope.metrics.pit.pairwise` evaluates a metric for all pairs, which for S sources passes S * S times over
the time axis, several times each. Of SI-SNR all that is needed is every signal's sum and energy and every pair's inner
product. In float64 their differences keep the whole range of the ratio (100 dB), and tile by tile they never leave the
cache; the gradient with regard to a signal is a weighted sum of the signals, one matrix product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from auriscope.metrics.ratios import check_shapes

_TILE = 1 << 19
"""Samples that are summed at once on a CPU: in float64, a few MiB."""


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
    valid = None
    count = estimates.new_full((1, 1, 1), estimates.shape[-1], dtype=torch.float64)
    if lengths is not None:
        valid = torch.arange(references.shape[-1], device=references.device) < lengths.reshape(-1, 1, 1)
        count = lengths.reshape(-1, 1, 1).double()
    # Totals, energies and extremes of the estimates, then of the references, (batch, E + R).
    sums: tuple[Tensor, ...] = _Sums.apply(estimates, references, valid)  # type: ignore[no-untyped-call]
    totals, energies, products, least, most = sums
    num_estimates = estimates.shape[1]
    silences = _silent(totals, least, most, count.squeeze(-1), 64 * torch.finfo(dtype).eps, zero_mean)
    silent_e, silent_r = silences[:, :num_estimates, None], silences[:, None, num_estimates:]
    if zero_mean:
        count = count.clamp(min=1)
        energies = energies - totals.square() / count.squeeze(-1)
        products = products - totals[:, :num_estimates, None] * totals[:, None, num_estimates:] / count
    energy_e, energy_r = energies[:, :num_estimates, None], energies[:, None, num_estimates:]
    # Safe numbers where a signal is silent, and what is defined there over them afterwards.
    silent = silent_e | silent_r
    energy_e = torch.where(silent, 1.0, energy_e)
    target = torch.where(silent, 0.0, products).square() / torch.where(silent_r, 1.0, energy_r)
    floor = eps * energy_e
    values = 10 * ((target + floor).log10() - ((energy_e - target).clamp(min=0) + floor).log10())
    values = torch.where(silent_r | values.isinf(), torch.nan, values)
    return values.to(dtype)


def _silent(totals: Tensor, least: Tensor, most: Tensor, count: Tensor, rounding: float, zero_mean: bool) -> Tensor:
    """Tell which signals (batch, signals) are silent, as ``ratios.is_silent`` does, from their sums and extremes."""
    peak = torch.maximum(most.abs(), least.abs())
    if not zero_mean:
        return (peak == 0) | (count == 0)
    mean = totals.detach() / count.clamp(min=1)
    return (torch.maximum(most - mean, mean - least) <= rounding * peak) | (count == 0)


class _Sums(torch.autograd.Function):
    """Sums and energies (batch, E + R), inner products (batch, E, R), least and largest values, all in float64."""

    @staticmethod
    def forward(ctx: Any, estimates: Tensor, references: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
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
            width = min(time, max(1024, _TILE // max(1, batch * num_signals)))
        tile = estimates.new_empty((batch, num_signals, width), dtype=torch.float64)
        totals = tile.new_zeros(batch, num_signals)
        energies = torch.zeros_like(totals)
        products = tile.new_zeros(batch, num_estimates, num_signals - num_estimates)
        for begin in range(0, time, width):
            part = tile[..., : min(width, time - begin)]
            part[:, :num_estimates] = estimates[..., begin : begin + width]
            part[:, num_estimates:] = references[..., begin : begin + width]
            totals += part.sum(-1)
            energies += torch.linalg.vector_norm(part, dim=-1).square_()
            products += part[:, :num_estimates] @ part[:, num_estimates:].mT
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
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
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
        return results[0], results[1], None


def _gradient(own: Tensor, other: Tensor, of_total: Tensor, of_energy: Tensor, of_products: Tensor) -> Tensor:
    """Collect what changes a signal's sum, its energy, and its products with the others, (batch, sources, time)."""
    dtype = torch.promote_types(own.dtype, torch.float32)
    result: Tensor = of_products.to(dtype) @ other.to(dtype)
    result.addcmul_(own.to(dtype), 2 * of_energy.to(dtype).unsqueeze(-1))
    result.add_(of_total.to(dtype).unsqueeze(-1))
    return result.to(own.dtype)
