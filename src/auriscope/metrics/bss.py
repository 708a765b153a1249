"""BSS-eval: SDR, SIR and SAR, which forgive any filter of 512 taps between the reference and the estimate.

The estimate is projected onto the delayed copies of its reference (the target), and onto those of all references; the
ratios compare the energies of the projections. The inner products of delayed copies are correlations: they come from
one FFT per signal, and the projections from a linear system that is Toeplitz (SDR) or made of Toeplitz blocks (SIR,
SAR). All is computed in float64: the energies left over are small differences.

Source: Vincent et al., "Performance measurement in blind audio source separation" (2006), sections II and III;
the FFT formulation is that of Scheibler, "SDR - medium rare with fast computations" (ICASSP 2022).

Silence is defined as in :mod:`auriscope.metrics.ratios`: NaN for a silent reference or one with NaN or infinity, the
lowest value ``10 log10(eps / (1 + eps))`` for a silent estimate, ``-`` that for a perfect one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from auriscope.metrics.ratios import check_shapes

_LOADING = 1e-12
"""Relative white noise under the references: band-limited ones give singular systems without it."""


@dataclass(frozen=True)
class BssEval:
    """``sdr``, ``sir`` and ``sar``, each (batch, sources) in decibels: whole, interference and artefacts."""

    sdr: Tensor
    sir: Tensor
    sar: Tensor


def sdr(
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
    *,
    filter_length: int = 512,
    eps: float = 1e-10,
) -> Tensor:
    r"""Signal-to-distortion ratio of BSS-eval in decibels, of each estimate against its own reference.

    .. math:: 10 \log_{10} \frac{\|P \hat s\|^2}{\|\hat s - P \hat s\|^2}

    where :math:`P` projects onto the span of the reference's copies delayed by 0 to ``filter_length - 1`` samples.

    Shapes: ``estimates`` and ``references`` (..., time), their leading dimensions broadcast; ``lengths`` (batch,) int64
    along the first dimension; the result has the leading shape and the inputs' precision (float32 at least). One matrix
    of ``filter_length`` squared is solved per reference. Raises ``ValueError`` when the shapes do not fit.

    >>> import torch
    >>> references = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    >>> delayed = torch.nn.functional.pad(references, (3, 0))[..., :4000]
    >>> sdr(delayed, references).item() > 25
    True
    """
    check_shapes(estimates, references, lengths)
    dtype = torch.promote_types(torch.promote_types(estimates.dtype, references.dtype), torch.float32)
    rank = max(estimates.dim(), references.dim())
    estimates, references = (x.reshape(*(1,) * (rank - x.dim()), *x.shape) for x in (estimates, references))
    estimates, silent_estimates = _normalized(estimates, lengths)
    references, silent_references = _normalized(references, lengths)
    time = references.shape[-1]
    num_fft = _fft_length(time + filter_length - 1)
    spectra, estimate_spectra = torch.fft.rfft(references, num_fft), torch.fft.rfft(estimates, num_fft)
    auto = torch.fft.irfft(spectra.abs().square(), num_fft)[..., :filter_length]
    cross = torch.fft.irfft(spectra.conj() * estimate_spectra, num_fft)[..., :filter_length]
    matrix = _toeplitz(auto, auto)
    target = _projection_energy(matrix, cross)
    silent = silent_references | silent_estimates
    values = _ratio(target, estimates.square().sum(-1) - target, eps)
    values = torch.where(silent, _lowest(eps), values)
    return torch.where(silent_references, torch.nan, values).to(dtype)


def bss_eval(
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
    *,
    filter_length: int = 512,
    eps: float = 1e-10,
) -> BssEval:
    r"""SDR, SIR and SAR of BSS-eval (version 3), the estimates in the order of their references.

    With :math:`P` the projection onto the delayed copies of the own reference and :math:`P_*` onto those of all,

    .. math:: \mathrm{SIR} = 10 \log_{10} \frac{\|P \hat s\|^2}{\|P_* \hat s - P \hat s\|^2}, \qquad
              \mathrm{SAR} = 10 \log_{10} \frac{\|P_* \hat s\|^2}{\|\hat s - P_* \hat s\|^2}.

    Shapes: ``estimates`` and ``references`` (batch, sources, time), ``lengths`` (batch,) int64. SIR and SAR need every
    reference: with a silent one among them they are NaN for the whole item. Raises ``ValueError`` for other shapes.

    >>> import torch
    >>> references = torch.randn(1, 2, 4000, generator=torch.Generator().manual_seed(0))
    >>> result = bss_eval(references + 0.1 * references.flip(1), references)
    >>> bool((result.sir > 19).all() and (result.sir < 22).all())
    True
    """
    if estimates.dim() != 3 or estimates.shape != references.shape:
        raise ValueError(
            f"estimates {tuple(estimates.shape)} and references {tuple(references.shape)} "
            "must be (batch, sources, time) of one shape"
        )
    own = sdr(estimates, references, lengths, filter_length=filter_length, eps=eps)
    dtype = own.dtype
    estimates, silent_estimates = _normalized(estimates, lengths)
    references, silent_references = _normalized(references, lengths)
    batch, num_sources, time = references.shape
    num_fft = _fft_length(time + filter_length - 1)
    spectra, estimate_spectra = torch.fft.rfft(references, num_fft), torch.fft.rfft(estimates, num_fft)
    # correlation[b, i, j, k] = sum_t references[b, i, t] references[b, j, t + k], for negative k at the end.
    correlation = torch.fft.irfft(spectra.unsqueeze(2).conj() * spectra.unsqueeze(1), num_fft)
    column = correlation[..., :filter_length]
    row = torch.cat([correlation[..., :1], correlation[..., num_fft - filter_length + 1 :].flip(-1)], -1)
    # blocks[b, i, j, m, n] = <references i delayed by m, references j delayed by n> = correlation at k = m - n.
    blocks = _toeplitz(column, row)
    size = num_sources * filter_length
    matrix = blocks.transpose(2, 3).reshape(batch, size, size)
    # cross[b, e, i, m] = <estimate e, reference i delayed by m>
    cross = torch.fft.irfft(spectra.unsqueeze(1).conj() * estimate_spectra.unsqueeze(2), num_fft)[..., :filter_length]
    joint = _projection_energy(matrix.unsqueeze(1), cross.reshape(batch, num_sources, size))
    diagonal = torch.arange(num_sources, device=references.device)
    target = _projection_energy(blocks[:, diagonal, diagonal], cross[:, diagonal, diagonal])
    # The projections are nested, so that their differences are orthogonal and energies subtract.
    sir = _ratio(target, joint - target, eps)
    sar = _ratio(joint, estimates.square().sum(-1) - joint, eps)
    undefined = silent_references.any(-1, keepdim=True)
    sir, sar = (torch.where(silent_estimates, _lowest(eps), values) for values in (sir, sar))
    sir, sar = (torch.where(undefined, torch.nan, values).to(dtype) for values in (sir, sar))
    return BssEval(own, sir, sar)


def _normalized(signals: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Give the signals in float64, zero beyond their lengths, of energy 1; also tell which are silent (...)."""
    signals = signals.double()
    if lengths is not None:
        valid = torch.arange(signals.shape[-1], device=signals.device) < lengths.unsqueeze(-1)
        signals = torch.where(valid.reshape(-1, *(1,) * (signals.dim() - 2), signals.shape[-1]), signals, 0.0)
    peak = signals.detach().abs().amax(-1, keepdim=True)
    silent = peak == 0
    signals = signals / torch.where(silent, 1.0, peak)
    energy = signals.detach().square().sum(-1, keepdim=True)
    return signals / torch.where(silent, 1.0, energy).sqrt(), silent.squeeze(-1)


def _toeplitz(column: Tensor, row: Tensor) -> Tensor:
    """Build Toeplitz matrices (..., n, n) from their first columns and rows (..., n)."""
    size = column.shape[-1]
    values = torch.cat([row[..., 1:].flip(-1), column], -1)
    index = torch.arange(size, device=column.device)
    return values[..., index.unsqueeze(1) - index.unsqueeze(0) + size - 1]


def _projection_energy(matrix: Tensor, cross: Tensor) -> Tensor:
    """Energy (...) of the projection whose normal equations are ``matrix @ filter = cross``."""
    loading = _LOADING * matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
    # A silent reference gives a zero matrix; its value is replaced later, and must only not be singular here.
    loading = torch.where(loading > 0, loading, torch.where(loading.isnan(), loading, 1.0))
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    # NaN is let through: solve_ex does not raise for it, and the ratio comes out as NaN.
    taps: Tensor = torch.linalg.solve_ex(matrix + loading[..., None, None] * eye, cross.unsqueeze(-1)).result
    return (taps.squeeze(-1) * cross).sum(-1)


def _ratio(signal: Tensor, noise: Tensor, eps: float) -> Tensor:
    """Ratio in decibels of two energies that may have come out slightly negative by rounding."""
    floor = eps * (signal + noise).clamp(min=torch.finfo(signal.dtype).tiny)
    return 10 * ((signal.clamp(min=0.0) + floor).log10() - (noise.clamp(min=0.0) + floor).log10())


def _lowest(eps: float) -> float:
    return 10 * math.log10(eps / (1 + eps))


def _fft_length(minimum: int) -> int:
    """Find the next power of two: correlations of this length do not wrap around into the taps used."""
    return 1 << (minimum - 1).bit_length()
