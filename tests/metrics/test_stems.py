"""The SDR of stems against mir_eval's BSS-eval of images, and its conventions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from mir_eval.separation import bss_eval_images

from auriscope.metrics.stems import chunked_image_sdr, median_image_sdr


@pytest.fixture
def stems() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(1, 3, 2, 6000, generator=generator)
    leak = 0.2 * references.roll(1, dims=1) + 0.1 * torch.randn(references.shape, generator=generator)
    return 0.8 * references + leak, references


def test_equal_to_bss_eval_of_images(stems: tuple[torch.Tensor, torch.Tensor]) -> None:
    # Two stems and one chunk: mir_eval solves systems of stems x channels x 512 unknowns.
    estimates, references = (signal[:, :2, :, :1500] for signal in stems)
    arrays = (signal[0].transpose(1, 2).numpy() for signal in (references, estimates))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        sdr, *_ = bss_eval_images(*arrays, compute_permutation=False)
    # BSS-eval's projections lose a little to rounding.
    assert chunked_image_sdr(estimates, references, 1500)[0, :, 0].numpy() == pytest.approx(sdr, abs=0.01)


def test_chunks_are_measured_by_themselves_and_their_median_is_taken(stems: tuple[torch.Tensor, torch.Tensor]) -> None:
    estimates, references = stems
    values = chunked_image_sdr(estimates, references, 2000)
    assert values.shape == (1, 3, 3)
    for number in range(3):
        part = slice(2000 * number, 2000 * (number + 1))
        alone = chunked_image_sdr(estimates[..., part], references[..., part], 2000)
        assert torch.equal(values[..., number : number + 1], alone)
    assert median_image_sdr(estimates, references, 2000)[0].numpy() == pytest.approx(np.median(values[0], axis=-1))


def test_a_chunk_with_a_silent_stem_counts_for_no_stem(stems: tuple[torch.Tensor, torch.Tensor]) -> None:
    estimates, references = stems
    references = references.clone()
    references[0, 1, :, :2000] = 0
    values = chunked_image_sdr(estimates, references, 2000)
    assert values[0, :, 0].isnan().all()
    assert not values[0, :, 1:].isnan().any()
    assert median_image_sdr(estimates, references, 2000)[0, 0] == pytest.approx(values[0, 0, 1:].mean())
    assert median_image_sdr(estimates * 0, references, 2000).isnan().all()


def test_a_perfect_estimate_is_finite_and_what_is_left_over_does_not_count(
    stems: tuple[torch.Tensor, torch.Tensor],
) -> None:
    _, references = stems
    assert (chunked_image_sdr(references, references, 2000) == 100).all()
    assert chunked_image_sdr(references, references, 3500).shape[-1] == 1


@pytest.mark.parametrize("shape", [(1, 2, 3, 50), (2, 3, 6000), (1, 3, 1, 6000)])
def test_shapes_that_do_not_fit(shape: tuple[int, ...], stems: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="must be \\(batch, sources, channels, time\\)"):
        chunked_image_sdr(torch.zeros(shape), stems[1], 100)
    with pytest.raises(ValueError, match="hold no chunk"):
        chunked_image_sdr(*stems, 6001)
