from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics.functional import audio as oracle

from auriscope.metrics import is_silent, sd_sdr, si_snr, snr

RATIOS = (si_snr, snr, sd_sdr)
Separated = tuple[Tensor, Tensor]


def _reference_si_snr(estimate: list[float], reference: list[float]) -> float:
    """The formula in plain Python, in float64."""
    time = len(reference)
    estimate = [value - math.fsum(estimate) / time for value in estimate]
    reference = [value - math.fsum(reference) / time for value in reference]
    scale = math.fsum(e * r for e, r in zip(estimate, reference, strict=True)) / math.fsum(r * r for r in reference)
    target = math.fsum((scale * r) ** 2 for r in reference)
    noise = math.fsum((e - scale * r) ** 2 for e, r in zip(estimate, reference, strict=True))
    return 10 * math.log10(target / noise)


@pytest.mark.parametrize("zero_mean", [True, False])
def test_equal_torchmetrics(separated: Separated, zero_mean: bool) -> None:
    estimates, references = separated
    estimates = estimates + 0.1
    pairs = (
        (si_snr, oracle.scale_invariant_signal_distortion_ratio(estimates, references, zero_mean=zero_mean)),
        (snr, oracle.signal_noise_ratio(estimates, references, zero_mean=zero_mean)),
    )
    for ratio, expected in pairs:
        torch.testing.assert_close(ratio(estimates, references, zero_mean=zero_mean), expected, rtol=0, atol=1e-3)


def test_sd_sdr_is_si_snr_with_the_scale_counted(separated: Separated) -> None:
    estimates, references = separated
    centred = references - references.mean(-1, keepdim=True)
    zero_mean_estimates = estimates - estimates.mean(-1, keepdim=True)
    scale = (zero_mean_estimates * centred).sum(-1) / centred.square().sum(-1)
    # Le Roux et al.: SD-SDR = SNR + 10 log10(scale^2)
    expected = snr(estimates, references, zero_mean=True) + 20 * scale.abs().log10()
    torch.testing.assert_close(sd_sdr(estimates, references), expected, rtol=0, atol=1e-3)


def test_si_snr_equals_the_formula_in_plain_python(separated: Separated) -> None:
    estimates, references = (x.double() for x in separated)
    values = si_snr(estimates, references)
    for index in [(0, 0), (1, 1), (2, 0)]:
        expected = _reference_si_snr(estimates[index].tolist(), references[index].tolist())
        assert values[index].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, -3.0, 1e6, 1e30])
def test_si_snr_ignores_the_scale_of_either(separated: Separated, scale: float) -> None:
    estimates, references = separated
    expected = si_snr(estimates, references)
    torch.testing.assert_close(si_snr(estimates * scale, references), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(si_snr(estimates, references * scale), expected, rtol=0, atol=1e-3)


def test_si_snr_ignores_a_mean_unless_told(separated: Separated) -> None:
    estimates, references = separated
    expected = si_snr(estimates, references)
    torch.testing.assert_close(si_snr(estimates + 5.0, references - 2.0), expected, rtol=0, atol=1e-3)
    assert (si_snr(estimates + 5.0, references, zero_mean=False) < expected - 5).all()


def test_high_values_are_exact(generator: torch.Generator) -> None:
    reference = torch.randn(16000, dtype=torch.float64, generator=generator)
    noise = torch.randn(16000, dtype=torch.float64, generator=generator)
    noise = noise - noise.mean()
    centred = reference - reference.mean()
    noise = noise - centred * (noise @ centred) / (centred @ centred)
    noise = noise * (centred.norm() / noise.norm())
    for level in (-60.0, 0.0, 30.0, 60.0):
        estimate = reference + noise * 10 ** (-level / 20)
        assert si_snr(estimate, reference).item() == pytest.approx(level, abs=1e-3)
        assert si_snr(estimate.float(), reference.float()).item() == pytest.approx(level, abs=5e-3)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_silent_reference_is_nan_and_has_no_gradient(ratio: Callable[..., Tensor], separated: Separated) -> None:
    estimates, references = separated
    references = references.clone()
    references[1, 0] = 0.0
    estimates = estimates.clone().requires_grad_()
    values = ratio(estimates, references)
    assert values.isnan().nonzero().tolist() == [[1, 0]]
    torch.nansum(values).backward()
    assert estimates.grad is not None
    assert estimates.grad.isfinite().all()
    assert estimates.grad[1, 0].abs().max() == 0
    assert estimates.grad[0, 0].abs().max() > 0


@pytest.mark.parametrize(("ratio", "expected"), [(si_snr, -100.0), (sd_sdr, -100.0), (snr, 0.0)])
def test_a_silent_estimate_has_a_defined_value(
    ratio: Callable[..., Tensor], expected: float, separated: Separated
) -> None:
    silent = torch.zeros_like(separated[1]).requires_grad_()
    values = ratio(silent, separated[1])
    torch.testing.assert_close(values, torch.full((3, 2), expected), rtol=0, atol=1e-3)
    values.sum().backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()


def test_a_perfect_estimate_has_a_defined_value_and_gradient(separated: Separated) -> None:
    for ratio in RATIOS:
        estimates = separated[1].clone().requires_grad_()
        values = ratio(estimates, separated[1])
        torch.testing.assert_close(values, torch.full((3, 2), 100.0), rtol=0, atol=0.1)
        values.sum().backward()
        assert estimates.grad is not None
        assert estimates.grad.isfinite().all()


def test_a_constant_is_silent_only_without_its_mean() -> None:
    constant = torch.full((2, 5000), 0.3)
    sound = torch.sin(torch.arange(5000) * 0.1).expand(2, -1)
    assert si_snr(sound, constant).isnan().all()
    assert si_snr(sound, constant, zero_mean=False).isfinite().all()
    torch.testing.assert_close(si_snr(constant, sound), torch.full((2,), -100.0), rtol=0, atol=1e-3)
    assert is_silent(constant).all()
    assert not is_silent(constant, zero_mean=False).any()


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_give_nan_in_their_item_alone(
    ratio: Callable[..., Tensor], bad: float, separated: Separated
) -> None:
    for side in (0, 1):
        signals = [signal.clone() for signal in separated]
        signals[side][2, 1, 100] = bad
        assert ratio(*signals).isnan().nonzero().tolist() == [[2, 1]]


@pytest.mark.parametrize("ratio", RATIOS)
def test_lengths_mask_what_lies_beyond(ratio: Callable[..., Tensor], separated: Separated) -> None:
    estimates, references = (signal.clone() for signal in separated)
    lengths = torch.tensor([6000, 1234, 3000])
    for item, length in enumerate(lengths.tolist()):
        estimates[item, :, length:] = 1e3
        references[item, :, length:] = math.nan
    values = ratio(estimates, references, lengths)
    for item, length in enumerate(lengths.tolist()):
        single = ratio(estimates[item, :, :length], references[item, :, :length])
        torch.testing.assert_close(values[item], single, rtol=0, atol=1e-3)
    pairs = ratio(estimates.unsqueeze(2), references.unsqueeze(1), lengths)
    torch.testing.assert_close(pairs.diagonal(dim1=1, dim2=2), values)


def test_a_length_of_zero_is_silence(separated: Separated) -> None:
    values = si_snr(*separated, torch.tensor([0, 6000, 6000]))
    assert values[0].isnan().all()
    assert values[1:].isfinite().all()


def test_half_precision_is_computed_in_single(separated: Separated) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        estimates, references = (signal.to(dtype) for signal in separated)
        values = si_snr(estimates, references)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, si_snr(estimates.float(), references.float()))


def test_gradient_is_that_of_the_formula(separated: Separated) -> None:
    estimates, references = (signal[:1, :1, :40].double() for signal in separated)
    estimates.requires_grad_()
    for ratio in RATIOS:
        assert torch.autograd.gradcheck(lambda e, ratio=ratio: ratio(e, references), (estimates,))


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(
    ("estimates", "references", "lengths"),
    [
        ((2, 100), (2, 99), None),
        ((2, 100), (2, 1), None),
        ((2, 100), (3, 100), None),
        ((2, 0), (2, 0), None),
        ((), (), None),
        ((100,), (100,), (1,)),
        ((2, 100), (2, 100), (3,)),
        ((2, 100), (2, 100), (2, 1)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    ratio: Callable[..., Tensor],
    estimates: tuple[int, ...],
    references: tuple[int, ...],
    lengths: tuple[int, ...] | None,
) -> None:
    with pytest.raises(ValueError, match=r"estimates|lengths"):
        ratio(
            torch.ones(estimates),
            torch.ones(references),
            None if lengths is None else torch.ones(lengths, dtype=torch.int64),
        )
