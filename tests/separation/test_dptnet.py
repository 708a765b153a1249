from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auriscope.separation.dptnet import DPTNet, DPTNetConfig, RecurrentTransformer

VARIANTS: list[dict[str, Any]] = [
    {},
    {"bidirectional": False, "norm": "channel", "feedforward_activation": "tanh"},
    {"num_sources": 3, "hop_size": 3, "kernel_size": 10, "stride": 3, "mask_activation": "sigmoid"},
]


def test_the_papers_size() -> None:
    assert DPTNet(DPTNetConfig()).num_parameters == pytest.approx(2.69e6, rel=0.05)
    # Asteroid's default, counted there.
    asteroid = DPTNetConfig(kernel_size=16, stride=8, chunk_size=100, hop_size=50, hidden_size=256)
    assert DPTNet(asteroid).num_parameters == 8_529_025


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(DPTNet(DPTNetConfig(**{**DPTNet.Tiny, **variant})))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_layer_is_the_papers_formulas(bidirectional: bool) -> None:
    torch.manual_seed(0)
    layer = RecurrentTransformer(DPTNetConfig(**DPTNet.Tiny), bidirectional).eval()
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    attention.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.out.weight,
            "out_proj.bias": layer.out.bias,
        }
    )
    x = torch.randn(3, 7, 8)

    def normalised(values: Tensor) -> Tensor:
        mean, variance = values.mean((1, 2), keepdim=True), values.var((1, 2), correction=0, keepdim=True)
        return (values - mean) / (variance + 1e-8).sqrt()

    middle = normalised(attention(x, x, x)[0] + x)
    expected = normalised(layer.projection(layer.recurrent(middle)[0].relu()) + middle)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm": "cumulative"}, "norm is"),
        ({"hop_size": 251}, "hop_size"),
        ({"num_heads": 5}, "num_heads"),
        ({"feedforward_activation": "gelu"}, "feedforward_activation is"),
        ({"mask_activation": "softmax"}, "mask_activation is"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPTNetConfig(**values)
