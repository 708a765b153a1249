"""Ratios of energies in decibels: SI-SNR, SNR and SD-SDR.

All of them share what happens at the edges:

- A **silent reference** (zero, or constant when ``zero_mean``; or of length 0) has no ratio: the value is NaN, and the
  accumulators leave it out. The gradient is then zero, not NaN.
- A **silent estimate** of a sounding reference has the lowest value, ``10 log10(eps / (1 + eps))``, for the
  scale-invariant ratios, and exactly 0 dB for SNR and SD-SDR, by their formulas.
- **NaN or infinity** in a signal gives NaN.
- A perfect estimate has the highest value, ``10 log10((1 + eps) / eps)``, instead of infinity: ``eps`` is relative to
  the energies compared, so that the value does not depend on the scale. With the default of 1e-10 the range is
  -100 to 100 dB, and a value of 60 dB is off by less than 0.001 dB.
"""

from __future__ import annotations

import torch
from torch import Tensor


def si_snr(
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
    *,
    zero_mean: bool = True,
    eps: float = 1e-10,
) -> Tensor:
    r"""Scale-invariant signal-to-noise ratio in decibels.

    .. math:: 10 \log_{10} \frac{\|\alpha s\|^2}{\|\hat s - \alpha s\|^2},
              \qquad \alpha = \frac{\langle \hat s, s \rangle}{\|s\|^2}

    for the estimate :math:`\hat s` and the reference :math:`s`, both without their means when ``zero_mean``.

    Shapes: ``estimates`` and ``references`` (..., time), their leading dimensions broadcast; ``lengths`` (batch,)
    int64, the number of valid samples of each item along the first dimension; the result has the leading shape.
    float16 and bfloat16 are computed in float32. Raises ``ValueError`` when the shapes do not fit. Silence and NaN:
    see the module.

    Source: Le Roux et al., "SDR - half-baked or well done?" (ICASSP 2019), its SI-SDR; with the mean removed it is the
    SI-SNR of Luo and Mesgarani, "Conv-TasNet" (2019).

    >>> import torch
    >>> references = torch.tensor([3.0, -0.5, 2.0, 7.0])
    >>> estimates = torch.tensor([2.5, 0.0, 2.0, 8.0])
    >>> round(si_snr(estimates, references).item(), 4)
    15.0918
    >>> round(si_snr(0.01 * estimates, references).item(), 4)
    15.0918
    """
    estimates, references = _prepare(estimates, references, lengths, zero_mean)
    # The value does not change with either scale: at a peak of 1 no energy underflows, however quiet the recording.
    estimates, silent_estimate = _peak_normalized(estimates)
    references, silent_reference = _peak_normalized(references)
    energy = references.square().sum(-1, keepdim=True)
    energy = torch.where(silent_reference, 1.0, energy)
    target = references * ((estimates * references).sum(-1, keepdim=True) / energy)
    target_energy = target.square().sum(-1)
    noise_energy = (estimates - target).square().sum(-1)
    floor = eps * (target_energy + noise_energy)
    # 0 / 0 for a silent estimate: put 0 dB's safe numbers there, and the defined floor over them afterwards.
    silent = (silent_estimate | silent_reference).squeeze(-1)
    signal = torch.where(silent, 1.0, target_energy + floor)
    noise = torch.where(silent, 1.0 + 1.0 / eps, noise_energy + floor)
    return _defined(10 * (signal.log10() - noise.log10()), silent_reference.squeeze(-1))


def snr(
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
    *,
    zero_mean: bool = False,
    eps: float = 1e-10,
) -> Tensor:
    r"""Signal-to-noise ratio in decibels, which sees the scale of the estimate.

    .. math:: 10 \log_{10} \frac{\|s\|^2}{\|\hat s - s\|^2}

    Shapes, ``lengths``, precision and errors are those of :func:`si_snr`; ``eps`` is relative to :math:`\|s\|^2`, so
    that the highest value is ``10 log10(1 / eps)``. Silence and NaN: see the module.

    >>> import torch
    >>> references = torch.tensor([3.0, -0.5, 2.0, 7.0])
    >>> estimates = torch.tensor([2.5, 0.0, 2.0, 8.0])
    >>> round(snr(estimates, references).item(), 4)
    16.1805
    """
    estimates, references = _prepare(estimates, references, lengths, zero_mean)
    references, silent, estimates = _reference_normalized(references, estimates)
    energy = torch.where(silent, 1.0, references.square().sum(-1))
    noise_energy = (references - estimates).square().sum(-1) + eps * energy
    noise_energy = torch.where(silent, 1.0, noise_energy)
    return _defined(10 * (energy.log10() - noise_energy.log10()), silent)


def sd_sdr(
    estimates: Tensor,
    references: Tensor,
    lengths: Tensor | None = None,
    *,
    zero_mean: bool = True,
    eps: float = 1e-10,
) -> Tensor:
    r"""Scale-dependent signal-to-distortion ratio in decibels: SI-SNR that also counts a wrong scale as distortion.

    .. math:: 10 \log_{10} \frac{\|\alpha s\|^2}{\|\hat s - s\|^2},
              \qquad \alpha = \frac{\langle \hat s, s \rangle}{\|s\|^2}

    Shapes, ``lengths``, precision and errors are those of :func:`si_snr`; ``eps`` is relative to :math:`\|s\|^2` and
    added to both energies. A silent estimate has the lowest value, ``10 log10(eps / (1 + eps))``.

    Source: Le Roux et al., "SDR - half-baked or well done?" (ICASSP 2019), its SD-SDR.

    >>> import torch
    >>> references = torch.tensor([3.0, -0.5, 2.0, 7.0])
    >>> round(sd_sdr(0.5 * references, references).item(), 4)
    0.0
    """
    estimates, references = _prepare(estimates, references, lengths, zero_mean)
    references, silent, estimates = _reference_normalized(references, estimates)
    energy = torch.where(silent, 1.0, references.square().sum(-1))
    target_energy = (estimates * references).sum(-1).square() / energy + eps * energy
    noise_energy = (references - estimates).square().sum(-1) + eps * energy
    target_energy, noise_energy = (torch.where(silent, 1.0, e) for e in (target_energy, noise_energy))
    return _defined(10 * (target_energy.log10() - noise_energy.log10()), silent)


def is_silent(waveforms: Tensor, lengths: Tensor | None = None, *, zero_mean: bool = True) -> Tensor:
    """Tell which signals are silent for the ratios above: zero, or constant when ``zero_mean``, within rounding.

    Shapes: ``waveforms`` (..., time), ``lengths`` (batch,); the result has the leading shape, bool. NaN is not silent.

    >>> import torch
    >>> is_silent(torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.0, 0.1, 0.0]])).tolist()
    [True, True, False]
    """
    _, waveforms = _prepare(waveforms, waveforms, lengths, zero_mean)
    return _peak(waveforms).squeeze(-1) == 0


def _prepare(estimates: Tensor, references: Tensor, lengths: Tensor | None, zero_mean: bool) -> tuple[Tensor, Tensor]:
    """Check the shapes, raise the precision, zero what lies beyond the lengths, and remove the means."""
    check_shapes(estimates, references, lengths)
    dtype = torch.promote_types(torch.promote_types(estimates.dtype, references.dtype), torch.float32)
    valid = None
    if lengths is not None:
        valid = torch.arange(references.shape[-1], device=references.device) < lengths.unsqueeze(-1)
        valid = valid.reshape(lengths.shape[0], *(1,) * (max(estimates.dim(), references.dim()) - 2), -1)
    return _centred(estimates.to(dtype), valid, zero_mean), _centred(references.to(dtype), valid, zero_mean)


def check_shapes(estimates: Tensor, references: Tensor, lengths: Tensor | None) -> None:
    """Raise ``ValueError`` unless both are (..., time) of the same time, broadcast, and ``lengths`` is (batch,)."""
    if estimates.dim() == 0 or references.dim() == 0 or estimates.shape[-1] != references.shape[-1]:
        raise ValueError(
            f"estimates {tuple(estimates.shape)} and references {tuple(references.shape)} differ in their time"
        )
    if references.shape[-1] == 0:
        raise ValueError("estimates and references hold no samples")
    try:
        shape = torch.broadcast_shapes(estimates.shape, references.shape)  # type: ignore[no-untyped-call]
    except RuntimeError:
        raise ValueError(
            f"estimates {tuple(estimates.shape)} and references {tuple(references.shape)} do not fit each other"
        ) from None
    if lengths is not None and (len(shape) < 2 or lengths.shape != shape[:1]):
        raise ValueError(f"lengths {tuple(lengths.shape)} is not the batch of {tuple(shape)}")


def _centred(signal: Tensor, valid: Tensor | None, zero_mean: bool) -> Tensor:
    """Zero what is not valid and, when asked, what lies around the mean; a constant comes out as exact zero."""
    if valid is not None:
        signal = torch.where(valid, signal, 0.0)
    if not zero_mean:
        return signal
    if valid is None:
        centred = signal - signal.mean(-1, keepdim=True)
    else:
        mean = signal.sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp(min=1)
        centred = torch.where(valid, signal - mean, 0.0)
    # The mean of a constant is off by some roundings, and what is then left is no signal.
    rounding = 64 * torch.finfo(signal.dtype).eps * _peak(signal)
    return torch.where(_peak(centred) <= rounding, torch.zeros_like(centred), centred)


def _peak(signal: Tensor) -> Tensor:
    """Give the largest magnitude (..., 1), without gradient."""
    return signal.detach().abs().amax(-1, keepdim=True)


def _peak_normalized(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Scale to a peak of 1; also tell, as (..., 1), which signals are silent. Infinity gives NaN."""
    peak = _peak(signal)
    silent = peak == 0
    return signal / torch.where(silent, 1.0, peak), silent


def _reference_normalized(references: Tensor, estimates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale the references to a peak of 1 and the estimates with them; silent references are told as (...)."""
    peak = _peak(references)
    silent = peak == 0
    scale = torch.where(silent, 1.0, peak)
    return references / scale, silent.squeeze(-1), estimates / scale


def _defined(values: Tensor, silent_references: Tensor) -> Tensor:
    """Put NaN where the reference is silent, or where a sample or a scale was infinite."""
    return torch.where(silent_references | values.isinf(), torch.nan, values)
