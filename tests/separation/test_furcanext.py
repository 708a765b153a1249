"""FurcaNeXt: its gated branches against blocks of Conv-TasNet one after the other, its size, its errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from auriscope.separation.convtasnet import TemporalConvBlock
from auriscope.separation.furcanext import FurcaNeXt, FurcaNeXtConfig, GatedBranchesBlock, GroupedLayerNorm

TINY = FurcaNeXt.Tiny


def test_the_papers_size() -> None:
    model = FurcaNeXt(FurcaNeXtConfig())
    # 32 blocks of 3 branches of a value and a gate, each a block of Conv-TasNet: 1x1, depthwise, 1x1, PReLUs, norms.
    one = 256 * 512 + 512 + 512 * 3 + 512 + 512 * 256 + 256 + 2 + 2 * 2 * 512
    assert sum(parameter.numel() for parameter in model.masker.blocks.parameters()) == 32 * 3 * 2 * one
    assert model.num_parameters == pytest.approx(51.4e6, rel=0.005)


def test_branches_are_pairs_of_conv_tasnets_blocks() -> None:
    torch.manual_seed(0)
    config = FurcaNeXtConfig(**{**TINY, "num_branches": 3})
    block = GatedBranchesBlock(config, dilation=2, has_residual=True)
    plain = [TemporalConvBlock(config, dilation=2, has_residual=True) for _ in range(6)]
    with torch.no_grad():
        for name in ("slope1", "slope2"):
            getattr(block, name).copy_(torch.linspace(0.1, 0.6, 6))
        for layer in (block.norm1, block.norm2):
            layer.weight.normal_()
            layer.bias.normal_()
        for number, one in enumerate(plain):
            hidden = slice(8 * number, 8 * number + 8)
            for name in ("expand", "depthwise", "norm1", "norm2", "residual"):
                source = getattr(block, name)
                getattr(one, name).weight.copy_(source.weight[hidden])
                getattr(one, name).bias.copy_(source.bias[hidden])
            one.prelu1.weight.fill_(float(block.slope1[number]))
            one.prelu2.weight.fill_(float(block.slope2[number]))
    x = torch.randn(2, 8, 11)
    for mask in (None, torch.arange(11) < torch.tensor([[[11]], [[7]]])):
        outputs = [one(x, mask)[0] for one in plain]
        expected = sum(outputs[p] * torch.sigmoid(outputs[p + 3]) for p in range(3)) / 3
        result, skip = block(x, mask)
        assert skip is None
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_the_grouped_norm_is_a_norm_of_every_group() -> None:
    norm = GroupedLayerNorm(3, 12)
    x = torch.randn(2, 12, 9)
    parts = [F.group_norm(x[:, start : start + 4], 1, eps=1e-8) for start in (0, 4, 8)]
    torch.testing.assert_close(norm(x), torch.cat(parts, dim=1))


def test_three_sources() -> None:
    torch.manual_seed(0)
    model = FurcaNeXt(FurcaNeXtConfig(**TINY, num_sources=3)).eval()
    estimates = model(torch.randn(2, 500))
    assert estimates.shape == (2, 3, 500)
    assert not torch.allclose(estimates[:, 0], estimates[:, 2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm": "channel"}, "norm must be 'global'"),
        ({"skip_channels": 128}, "skip_channels must be 0"),
        ({"num_branches": 0}, "num_branches must be at least 1"),
        ({"initial_filters": "harmonic"}, "2 \\* kernel_size"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FurcaNeXtConfig(**values)
