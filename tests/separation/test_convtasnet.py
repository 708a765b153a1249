from __future__ import annotations

from typing import Any

import pytest
import torch

from auriscope.separation.convtasnet import SMALL_16K, ConvTasNet, ConvTasNetConfig

VARIANTS: list[dict[str, Any]] = [
    {},
    {"skip_channels": 0, "encoder_activation": "relu"},
    {"causal": True, "norm": "channel"},
    {"causal": True, "norm": "cumulative"},
    {"num_sources": 3, "mask_activation": "softmax", "block_kernel_size": 5},
    {"block_padding": "reflect", "block_kernel_size": 5, "input_norm": "channel"},
    {"block_padding": "late", "causal": True, "norm": "channel"},
    {"block_padding": "late", "input_norm": "channel", "skip_channels": 0},
    {"edge_padding": 8},
]


def test_the_papers_size() -> None:
    model = ConvTasNet(ConvTasNetConfig())
    last_residual = 512 * 128 + 128
    assert model.num_parameters + last_residual == 5_050_545
    assert abs(model.num_parameters / 5.1e6 - 1) < 0.05
    assert ConvTasNet(SMALL_16K).num_parameters == pytest.approx(1.5e6, rel=0.03)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(ConvTasNet(ConvTasNetConfig(**{**ConvTasNet.Tiny, **variant})))


@pytest.mark.parametrize("norm", ["channel", "cumulative"])
def test_a_causal_network_does_not_see_the_future(norm: str) -> None:
    torch.manual_seed(0)
    config = ConvTasNetConfig(**{**ConvTasNet.Tiny, "causal": True, "norm": norm})
    model = ConvTasNet(config).eval()
    mixture = torch.randn(1, 800)
    changed = mixture.clone()
    changed[:, 400:] += 1
    before, after = model(mixture), model(changed)
    reach = 400 - config.kernel_size
    torch.testing.assert_close(after[..., :reach], before[..., :reach], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(after[..., 400:], before[..., 400:], atol=1e-3)


def test_the_future_matters_to_a_network_that_is_not_causal() -> None:
    torch.manual_seed(0)
    model = ConvTasNet(ConvTasNetConfig(**ConvTasNet.Tiny)).eval()
    mixture = torch.randn(1, 800)
    changed = mixture.clone()
    changed[:, 400:] += 1
    assert not torch.allclose(model(changed)[..., :380], model(mixture)[..., :380], atol=1e-4)


def test_softmax_masks_share_the_features_out() -> None:
    torch.manual_seed(0)
    model = ConvTasNet(ConvTasNetConfig(**{**ConvTasNet.Tiny, "mask_activation": "softmax"})).eval()
    mixture = torch.randn(1, 800)
    features = model.encoder(mixture).transpose(1, 2)
    torch.testing.assert_close(model.masker(features).sum(1), torch.ones_like(features))
    torch.testing.assert_close(model(mixture).sum(1), model.decoder(features[:, None], 800)[:, 0])


def test_bfloat16_is_close() -> None:
    torch.manual_seed(0)
    model = ConvTasNet(ConvTasNetConfig(**ConvTasNet.Tiny)).eval()
    mixture = torch.randn(2, 800)
    exact = model(mixture)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(mixture)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"causal": True}, "causal"),
        ({"block_kernel_size": 4}, "odd"),
        ({"mask_activation": "gelu"}, "mask_activation is 'gelu'"),
    ],
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvTasNetConfig(**values)


def test_a_late_block_looks_half_its_reach_further_back() -> None:
    torch.manual_seed(0)
    tiny = {**ConvTasNet.Tiny, "num_blocks": 1, "num_repeats": 1, "norm": "channel", "causal": True}
    late = ConvTasNet(ConvTasNetConfig(**tiny, block_padding="late")).masker.blocks[0]
    usual = ConvTasNet(ConvTasNetConfig(**tiny)).masker.blocks[0]
    usual.load_state_dict(late.state_dict())
    x = torch.randn(1, tiny["bottleneck_channels"], 30)
    # A kernel of three without dilation reaches two frames; zeros come in where there is no past.
    shifted = torch.nn.functional.pad(x, (1, 0))[..., :30]
    torch.testing.assert_close(late(x, None)[1][..., 5:], usual(shifted, None)[1][..., 5:])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"causal": True, "norm": "channel", "edge_padding": 8}, "edge_padding must be 0 or more"),
        ({"block_padding": "both"}, "block_padding is 'both'"),
        ({"input_norm": "none"}, "input_norm is 'none'"),
        ({"causal": True, "norm": "channel", "block_padding": "reflect"}, "cannot have the block_padding 'reflect'"),
        ({"causal": True, "norm": "channel", "input_norm": "global"}, "cannot have the norm 'global'"),
        ({"causal": True, "norm": "channel", "block_padding": "late", "block_kernel_size": 2}, "must be odd"),
    ],
)
def test_paddings_and_norms_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvTasNetConfig(**values)
