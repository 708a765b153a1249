"""SDR of stems as MUSDB18 is measured with: of images in 1 s chunks, whose median is taken."""

from __future__ import annotations

import torch
from torch import Tensor


def chunked_image_sdr(estimates: Tensor, references: Tensor, chunk_frames: int) -> Tensor:
    r"""SDR of source images in decibels, chunk by chunk.

    .. math:: 10 \log_{10} \frac{\sum_{c,t} s_c(t)^2}{\sum_{c,t} (\hat s_c(t) - s_c(t))^2}

    over the channels and samples of a chunk. This is the SDR of BSS-eval for images: all its distortions (spatial,
    interference and artefacts) sum to the difference of estimate and reference, so that the filters that tell them
    apart do not enter. Scale and delay count as distortion.

    Shapes: ``estimates`` and ``references`` (batch, sources, channels, time); the result is (batch, sources, chunks),
    of whole chunks only. A chunk in which any source's reference or estimate is silent is NaN for all sources, as in
    museval. Raises ``ValueError`` when the shapes differ or there is no whole chunk.

    Source: Vincent et al., "The 2007 signal separation evaluation campaign" (ICA 2007), section 4; Stöter et al., "The
    2018 signal separation evaluation campaign" (arXiv 1804.06267), section 3.2, for the chunks of 1 s and the median.

    >>> import torch
    >>> references = torch.ones(1, 2, 2, 8)
    >>> chunked_image_sdr(0.9 * references, references, 4).round().tolist()
    [[[20.0, 20.0], [20.0, 20.0]]]
    """
    if estimates.dim() != 4 or estimates.shape != references.shape:
        raise ValueError(
            f"estimates {tuple(estimates.shape)} and references {tuple(references.shape)} must be "
            "(batch, sources, channels, time) of one shape"
        )
    count = references.shape[-1] // chunk_frames
    if count == 0:
        raise ValueError(f"{references.shape[-1]} samples hold no chunk of {chunk_frames}")
    estimates, references = (
        signal[..., : count * chunk_frames].double().reshape(*signal.shape[:-1], count, chunk_frames)
        for signal in (estimates, references)
    )
    energy = references.square().sum((2, 4))
    error = (estimates - references).square().sum((2, 4))
    silent = (energy == 0) | (estimates.square().sum((2, 4)) == 0)
    tiny = torch.finfo(energy.dtype).tiny
    values = 10 * (energy.clamp(min=tiny).log10() - error.clamp(min=1e-10 * energy).clamp(min=tiny).log10())
    return torch.where(silent.any(1, keepdim=True), torch.nan, values)


def median_image_sdr(estimates: Tensor, references: Tensor, chunk_frames: int) -> Tensor:
    """Median over the chunks of :func:`chunked_image_sdr`, (batch, sources); NaN where every chunk is."""
    return chunked_image_sdr(estimates, references, chunk_frames).nanquantile(0.5, dim=-1)
