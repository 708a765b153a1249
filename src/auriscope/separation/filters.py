"""How learned filterbanks begin: at random, or as windowed sines and cosines, with which short trainings begin well."""

from __future__ import annotations

import torch

from auriscope.nn.masks import choice
from auriscope.separation.layers import Decoder, Encoder
from auriscope.separation.tasnet import harmonic_basis

INITIAL_FILTERS = ("random", "harmonic")


def check_initial_filters(initial: str, num_filters: int, kernel_size: int, stride: int, fixed: bool = False) -> None:
    """Raise ``ValueError`` unless ``initial`` is one of ``INITIAL_FILTERS`` and filters of these sizes can be that.

    Filters that stay ``fixed`` must be harmonic: random ones do not reconstruct.

    Harmonic ones are cosines and sines of all frequencies, each with both signs, so that features that are never
    negative still tell the phase: twice as many as a filter has samples, at a stride of half a filter.
    """
    choice(initial, INITIAL_FILTERS, "initial_filters")
    if initial == "harmonic" and not num_filters == 2 * kernel_size == 4 * stride:
        raise ValueError("harmonic filters need num_filters = 2 * kernel_size and stride = kernel_size / 2")
    if fixed and initial != "harmonic":
        raise ValueError("fixed_filters needs initial_filters 'harmonic'")


def begin_harmonic(encoder: Encoder, decoder: Decoder, gain: float = 1.0, *, fixed: bool = False) -> None:
    """Make both filterbanks harmonic: after ReLU the decoder gives the mixture times the square of ``gain``.

    ``fixed`` takes the filters from the parameters, and from what is stored; as they are not trained, the decoder then
    gives the mixture as it is.
    """
    basis = harmonic_basis(encoder.kernel_size)[:, None]
    signed = torch.cat([basis, -basis])
    if not fixed:
        with torch.no_grad():
            encoder.weight.copy_(gain * signed)
            decoder.weight.copy_(gain * signed)
        return
    decoder.mirrored = True
    for filterbank, weight in ((encoder, gain * signed), (decoder, basis / gain)):
        del filterbank.weight
        filterbank.register_buffer("weight", weight, persistent=False)
