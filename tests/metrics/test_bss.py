from __future__ import annotations

import math
import os
import warnings
from pathlib import Path

import fast_bss_eval
import numpy as np
import pytest
import torch
from mir_eval.separation import bss_eval_sources
from torch import Tensor

from auriscope.metrics import bss_eval, pairwise, sdr

Separated = tuple[Tensor, Tensor]


def _mir_eval(estimates: Tensor, references: Tensor) -> np.ndarray:
    """SDR, SIR, SAR (3, batch, sources) of mir_eval without permutation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        values = [
            bss_eval_sources(r.numpy(), e.numpy(), compute_permutation=False)[:3]
            for e, r in zip(estimates.double(), references.double(), strict=True)
        ]
    return np.stack(values, 1)


def test_equal_mir_eval(separated: Separated) -> None:
    result = bss_eval(*separated)
    expected = _mir_eval(*separated)
    for ours, theirs in zip((result.sdr, result.sir, result.sar), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-3)


def test_equal_fast_bss_eval(separated: Separated) -> None:
    estimates, references = (signal.double() for signal in separated)
    expected = fast_bss_eval.bss_eval_sources(references, estimates, compute_permutation=False)
    result = bss_eval(estimates, references)
    for ours, theirs in zip((result.sdr, result.sir, result.sar), expected, strict=False):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_sdr_alone_equals_that_of_bss_eval(separated: Separated) -> None:
    torch.testing.assert_close(sdr(*separated), bss_eval(*separated).sdr)
    pairs = pairwise(sdr, *separated)
    torch.testing.assert_close(pairs.diagonal(dim1=1, dim2=2), sdr(*separated))


def test_projection_equals_least_squares(generator: torch.Generator) -> None:
    reference, estimate = torch.randn(2, 300, dtype=torch.float64, generator=generator)
    taps = 20
    delayed = torch.stack([torch.nn.functional.pad(reference, (k, taps - 1 - k)) for k in range(taps)], 1)
    padded = torch.nn.functional.pad(estimate, (0, taps - 1))
    target = delayed @ torch.linalg.lstsq(delayed, padded.unsqueeze(1)).solution.squeeze(1)
    expected = 10 * (target.square().sum() / (padded - target).square().sum()).log10()
    assert sdr(estimate, reference, filter_length=taps).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_filter_within_the_taps_is_forgiven(generator: torch.Generator) -> None:
    references = torch.randn(1, 9000, generator=generator)
    kernel = torch.randn(1, 1, 100, generator=generator)
    references[:, -100:] = 0.0  # so that the filtered signal ends within the recording
    filtered = torch.nn.functional.conv1d(references.unsqueeze(1), kernel.flip(-1), padding=99).squeeze(1)[:, :9000]
    assert sdr(filtered, references).item() > 60
    assert sdr(filtered, references, filter_length=50).item() < 20


def test_a_pure_tone_is_projected_in_spite_of_the_singular_system() -> None:
    time = torch.arange(8000, dtype=torch.float64)
    tone, other = torch.sin(0.05 * time), torch.sin(0.71 * time)
    value = sdr(2 * torch.sin(0.05 * time + 0.4) + 0.2 * other, tone).item()
    assert value == pytest.approx(20.0, abs=1.0)
    assert sdr(tone, tone).item() > 80


def test_silence_and_nan_are_defined(separated: Separated) -> None:
    estimates, references = (signal.clone() for signal in separated)
    references[0, 1] = 0.0
    estimates[1, 0] = 0.0
    estimates[2, 1, 50] = math.nan
    values = sdr(estimates, references)
    assert values.isnan().nonzero().tolist() == [[0, 1], [2, 1]]
    assert values[1, 0].item() == pytest.approx(-100.0, abs=1e-3)
    result = bss_eval(estimates, references)
    for ratio in (result.sir, result.sar):
        assert ratio.isnan().nonzero().tolist() == [[0, 0], [0, 1], [2, 1]]
        assert ratio[1, 0].item() == pytest.approx(-100.0, abs=1e-3)
    references[2, 0, 3] = math.inf
    assert sdr(estimates, references)[2].isnan().all()


def test_lengths_mask_what_lies_beyond(separated: Separated) -> None:
    estimates, references = (signal.clone() for signal in separated)
    lengths = torch.tensor([6000, 2500, 4000])
    estimates[1, :, 2500:] = 7.0
    references[2, :, 4000:] = 7.0
    values = bss_eval(estimates, references, lengths)
    for item, length in enumerate(lengths.tolist()):
        single = bss_eval(estimates[item : item + 1, :, :length], references[item : item + 1, :, :length])
        for name in ("sdr", "sir", "sar"):
            torch.testing.assert_close(getattr(values, name)[item], getattr(single, name)[0], rtol=0, atol=1e-3)
    broadcast = sdr(estimates[:, 0], references[0, 0], lengths)
    torch.testing.assert_close(broadcast, sdr(estimates[:, 0], references[0, 0].expand(3, -1), lengths))


def test_gradient_raises_the_value(separated: Separated) -> None:
    estimates, references = (signal[:, :, :1500].double() for signal in separated)
    estimates.requires_grad_()
    before = sdr(estimates, references, filter_length=32)
    (gradient,) = torch.autograd.grad(before.sum(), estimates)
    after = sdr(estimates + 0.1 * gradient / gradient.abs().amax(-1, keepdim=True), references, filter_length=32)
    assert (after > before).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in their time"):
        sdr(torch.ones(2, 100), torch.ones(2, 99))
    with pytest.raises(ValueError, match="batch, sources, time"):
        bss_eval(torch.ones(2, 100), torch.ones(2, 100))


@pytest.mark.corpora
def test_equal_mir_eval_on_speech() -> None:
    if "AURISCOPE_CORPORA" not in os.environ:
        pytest.skip("AURISCOPE_CORPORA is not set")
    from auriscope.signal.files import read

    folder = Path(os.environ["AURISCOPE_CORPORA"]) / "libri_eval50_flac"
    paths = sorted(folder.rglob("*.flac"))[:2]
    sources = torch.stack([torch.from_numpy(read(path, duration_seconds=3.0)[0]) for path in paths]).unsqueeze(0)
    estimates = sources + 0.1 * sources.flip(1) + 0.001 * torch.randn(sources.shape, generator=torch.manual_seed(1))
    result = bss_eval(estimates, sources)
    expected = _mir_eval(estimates, sources)
    for ours, theirs in zip((result.sdr, result.sir, result.sar), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-2)
