from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from auriscope.separation.dptnet import DPTNet, DPTNetConfig, DPTNetMasker, RecurrentTransformer

VARIANTS: list[dict[str, Any]] = [
    {},
    {"bidirectional": False, "norm": "channel", "feedforward_activation": "tanh"},
    {"num_sources": 3, "hop_size": 3, "kernel_size": 10, "stride": 3, "mask_activation": "sigmoid"},
    {"num_filters": 12, "bottleneck_channels": 8, "norm": "channel", "feature_norm": "global", "chunk_padding": "half"},
]


def test_the_papers_size() -> None:
    assert DPTNet(DPTNetConfig()).num_parameters == pytest.approx(2.69e6, rel=0.05)
    # Asteroid's default, counted there.
    asteroid = DPTNetConfig(kernel_size=16, stride=8, chunk_size=100, hop_size=50, hidden_size=256)
    assert DPTNet(asteroid).num_parameters == 8_529_025


def test_the_size_of_the_authors_network() -> None:
    recipe = Path(__file__).parents[2] / "recipes/separation/dptnet-wsj0-2mix.yaml"
    model = DPTNet(DPTNetConfig(**yaml.safe_load(recipe.read_text())["model"]["config"]))
    # Counted in the authors' code.
    assert model.num_parameters == 2_834_945
    # The published 2.69 million leave the attention's input projections out: of two paths in each of six blocks.
    assert model.num_parameters - 12 * (3 * 64 * 64 + 3 * 64) == 2_685_185


class Unchanged(nn.Module):
    """In the place of a norm."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return x


def test_the_bottleneck_leads_from_the_filters_to_the_transformers_and_back() -> None:
    torch.manual_seed(0)
    config = DPTNetConfig(
        **{**DPTNet.Tiny, "num_filters": 12, "bottleneck_channels": 8, "norm": "channel", "feature_norm": "global"}
    )
    masker = DPTNetMasker(config).eval()
    plain = DPTNetMasker(replace(config, num_filters=8, bottleneck_channels=0, mask_activation="linear")).eval()
    plain.load_state_dict(
        {name: value for name, value in masker.state_dict().items() if not name.startswith(("norm.", "bottleneck."))},
        strict=False,
    )
    plain.norm = Unchanged()
    features = 3 + 2 * torch.randn(2, 23, 12)
    assert masker.bottleneck is not None
    assert masker.to_masks is not None
    mean, variance = features.mean((1, 2), keepdim=True), features.var((1, 2), correction=0, keepdim=True)
    narrow = plain(masker.bottleneck((features - mean) / (variance + 1e-8).sqrt()))
    torch.testing.assert_close(masker(features), masker.to_masks(narrow).relu(), atol=1e-5, rtol=1e-4)


def test_with_half_a_chunk_of_padding_every_frame_is_in_two_chunks() -> None:
    chunking = DPTNetMasker(DPTNetConfig(**DPTNet.Tiny, chunk_padding="half")).chunking
    for num_frames in range(1, 40):
        starts = range(-5, -5 + 5 * int(chunking.num_chunks(num_frames)), 5)
        assert all(sum(start <= frame < start + 10 for start in starts) == 2 for frame in range(num_frames))


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
        ({"feature_norm": "none"}, "feature_norm is"),
        ({"hop_size": 251}, "hop_size"),
        ({"hop_size": 100, "chunk_padding": "half"}, "chunk_padding"),
        ({"num_heads": 5}, "num_filters must be a multiple of num_heads"),
        ({"bottleneck_channels": 30}, "bottleneck_channels must be a multiple"),
        ({"bottleneck_channels": -4}, "bottleneck_channels must be 0"),
        ({"feedforward_activation": "gelu"}, "feedforward_activation is"),
        ({"mask_activation": "softmax"}, "mask_activation is"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPTNetConfig(**values)
