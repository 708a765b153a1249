from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from auriscope.separation.tasnet import TasNet, TasNetConfig, harmonic_basis

VARIANTS: list[dict[str, Any]] = [
    {},
    {"stride": 16},
    {"stride": 6, "num_sources": 3},
    {"bidirectional": False},
    {"num_filters": 32, "initial_filters": "harmonic"},
]


def tiny(**values: Any) -> TasNet:
    torch.manual_seed(0)
    return TasNet(TasNetConfig(**{**TasNet.Tiny, **values})).eval()


def as_in_the_paper(model: TasNet, mixture: Tensor) -> Tensor:
    """The paper's formulas for one mixture (time,) of whole segments, normalised, their norms put back."""
    config, masker = model.config, model.masker
    starts = range(0, len(mixture) - config.kernel_size + 1, config.stride)
    weights, norms = [], []
    for start in starts:
        segment = mixture[start : start + config.kernel_size]
        norms.append(segment.square().sum().sqrt())
        unit = segment / norms[-1]
        weights.append(
            torch.stack(
                [
                    torch.relu((unit * u[0]).sum()) * torch.sigmoid((unit * v[0]).sum())
                    for u, v in zip(model.encoder.weight, model.encoder.gate, strict=True)
                ]
            )
        )
    frames = torch.stack(weights)
    centred = frames - frames.mean(1, keepdim=True)
    x = masker.norm.weight * centred / centred.square().mean(1, keepdim=True).sqrt() + masker.norm.bias
    for number, layer in enumerate(masker.layers):
        y = layer(x[None])[0][0]
        x = y if number == 0 else x + y
    shares = masker.to_masks(x).reshape(len(frames), config.num_sources, config.num_filters).exp()
    masks = shares / shares.sum(1, keepdim=True)
    estimates = torch.zeros(config.num_sources, len(mixture))
    for number, start in enumerate(starts):
        segments = (masks[number] * frames[number]) @ model.decoder.weight[:, 0]
        estimates[:, start : start + config.kernel_size] += norms[number] * segments
    return estimates


def test_the_size_that_the_authors_state() -> None:
    model = TasNet(TasNetConfig())
    assert model.num_parameters == 23_094_000
    assert abs(model.num_parameters / 23.6e6 - 1) < 0.05


@pytest.mark.parametrize("stride", [8, 16])
def test_the_formulas_of_the_paper_segment_by_segment(stride: int) -> None:
    model = tiny(stride=stride, num_sources=3)
    mixture = 0.1 * torch.randn(160)
    # Segments of very different level, which the norms must not lose.
    mixture[:64] *= 1e-3
    with torch.no_grad():
        expected, estimates = as_in_the_paper(model, mixture), model(mixture[None])[0]
    torch.testing.assert_close(estimates, expected, atol=3e-7, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(tiny(**variant))


def test_the_last_samples_belong_to_a_segment_too() -> None:
    model = tiny(stride=16)
    mixture = torch.zeros(1, 33)
    mixture[0, 32] = 1
    assert model(mixture)[..., 32].abs().min() > 0


def test_the_harmonic_basis_is_orthonormal_under_its_window() -> None:
    window = torch.hann_window(32).sqrt()
    functions = harmonic_basis(32)[:, 1:] / window[1:]  # the window's first sample is zero
    assert functions.square().sum(0) == pytest.approx(torch.ones(31), abs=1e-3)
    products = functions.T @ functions
    torch.testing.assert_close(products, torch.eye(31), atol=1e-4, rtol=0)


def test_harmonic_filters_begin_with_the_mixture_in_equal_shares() -> None:
    model = tiny(num_filters=32, initial_filters="harmonic")
    with torch.no_grad():
        model.encoder.gate.zero_()
        model.masker.to_masks.weight.zero_()
        model.masker.to_masks.bias.zero_()
        mixture = torch.randn(1, 800)
        estimates = model(mixture)
    # The first and the last half of a segment have one frame only.
    torch.testing.assert_close(estimates[:, 0, 16:-16], 0.5 * mixture[:, 16:-16], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(estimates[:, 1], estimates[:, 0])


def test_a_network_that_runs_one_way_does_not_see_the_future() -> None:
    model = tiny(bidirectional=False)
    mixture = torch.randn(1, 400)
    changed = mixture.clone()
    changed[:, 200:] += 1
    with torch.no_grad():
        before, after = model(mixture), model(changed)
    torch.testing.assert_close(after[..., :184], before[..., :184])
    assert not torch.allclose(after[..., 200:], before[..., 200:], atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"initial_filters": "gabor"}, "initial_filters is 'gabor'"),
        ({"stride": 41}, "stride"),
        ({"initial_filters": "harmonic"}, "2 \\* kernel_size"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TasNetConfig(**values)
