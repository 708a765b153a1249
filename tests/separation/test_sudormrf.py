from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from auriscope.separation.sudormrf import ResamplingMasker, SuDoRMRF, SuDoRMRFConfig

VARIANTS: list[dict[str, Any]] = [
    {},
    {"variant": "improved"},
    {"num_sources": 3, "depth": 1, "bottleneck_channels": 16, "mask_activation": "relu"},
    {"variant": "improved", "num_sources": 3, "depth": 5, "kernel_size": 8, "stride": 2, "mask_activation": "softmax"},
]


def test_the_papers_size() -> None:
    # Asteroid's, counted there; the paper's 1.0x has 2.6 million.
    assert SuDoRMRF(SuDoRMRFConfig()).num_parameters == 2_584_196
    assert SuDoRMRF(SuDoRMRFConfig(variant="improved")).num_parameters == 2_630_801


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(SuDoRMRF(SuDoRMRFConfig(**{**SuDoRMRF.Tiny, **variant})))


@pytest.mark.parametrize("bottleneck_channels", [6, 8])
def test_the_mask_matrix_is_a_filter_along_the_features(bottleneck_channels: int) -> None:
    torch.manual_seed(0)
    config = SuDoRMRFConfig(
        num_sources=3, num_filters=8, bottleneck_channels=bottleneck_channels, hidden_channels=8, num_blocks=0
    )
    masker = ResamplingMasker(config)
    features = torch.randn(2, 5, 8)
    x = masker.bottleneck(masker.norm(features))
    x = x if masker.to_features is None else masker.to_features(x)
    # One feature after the other is the time of a convolution here, with zeros around.
    filtered = F.conv1d(
        x.reshape(10, 1, 8), masker.along_features.weight, masker.along_features.bias, padding=4
    ).reshape(2, 5, 3, 8)
    torch.testing.assert_close(masker(features), filtered.transpose(1, 2).softmax(1))


@pytest.mark.parametrize("variant", ["original", "improved"])
def test_bfloat16_is_close_and_trains(variant: str) -> None:
    torch.manual_seed(0)
    model = SuDoRMRF(SuDoRMRFConfig(**SuDoRMRF.Tiny, variant=variant)).eval()
    mixture = torch.randn(2, 800)
    exact = model(mixture)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(mixture)
        rough.square().mean().backward()
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.1 * exact.norm()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "better"}, "variant is"),
        ({"stride": 11}, "stride must"),
        ({"depth": 0}, "depth"),
        ({"num_filters": 511}, "num_filters"),
        ({"mask_activation": "gelu"}, "mask_activation is"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuDoRMRFConfig(**values)
