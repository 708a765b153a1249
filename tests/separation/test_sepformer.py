from __future__ import annotations

from typing import Any

import pytest
import torch

from auriscope.separation.sepformer import (
    SMALL_16K,
    SepFormer,
    SepFormerConfig,
    TransformerLayer,
    TransformerPath,
    sinusoids,
)

VARIANTS: list[dict[str, Any]] = [
    {},
    {"num_sources": 3, "num_blocks": 2, "num_intra_layers": 2},
    {"num_sources": 1, "kernel_size": 10, "stride": 3, "chunk_size": 6},
]


def test_the_papers_size() -> None:
    model = SepFormer(SepFormerConfig())
    # Two filterbanks and the masker, counted in SpeechBrain's.
    assert model.num_parameters == 25_671_169 + 2 * 4096
    assert round(model.num_parameters / 1e6) == 26
    assert SepFormer(SMALL_16K).num_parameters == pytest.approx(2.5e6, rel=0.03)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(SepFormer(SepFormerConfig(**{**SepFormer.Tiny, **variant})))


@pytest.mark.parametrize("slice_positions", [1, 64, 200])
def test_slices_give_what_the_whole_gives(slice_positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = SepFormer(SepFormerConfig(**SepFormer.Tiny)).eval()
    mixture = torch.randn(2, 900)
    lengths = torch.tensor([900, 431])
    whole = model(mixture, lengths)
    monkeypatch.setattr(TransformerPath, "slice_positions", slice_positions)
    with torch.no_grad():
        torch.testing.assert_close(model(mixture, lengths), whole, atol=1e-6, rtol=1e-5)


def test_a_layer_is_torchs_pre_norm_encoder_layer() -> None:
    torch.manual_seed(0)
    config = SepFormerConfig(num_filters=16, num_heads=4, feedforward_size=24)
    ours = TransformerLayer(config)
    theirs = torch.nn.TransformerEncoderLayer(
        16, 4, 24, dropout=0.0, layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    pairs = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "out.",
        "linear1.": "feedforward1.",
        "linear2.": "feedforward2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    own = ours.state_dict()
    theirs.load_state_dict({their + end: own[our + end] for their, our in pairs.items() for end in ("weight", "bias")})
    x = torch.randn(3, 11, 16)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
    hidden = torch.arange(11) >= torch.tensor([[11], [4], [7]])
    masked = theirs(x, src_key_padding_mask=hidden)
    torch.testing.assert_close(ours(x, ~hidden[:, None, None]), masked, atol=1e-5, rtol=1e-5)


def test_positions() -> None:
    table = sinusoids(3000, 8, torch.device("cpu"))
    assert table.shape == (3000, 8)
    rate = 10000 ** (-2 / 8)
    position = torch.tensor(2718.0, dtype=torch.float64)
    assert table[2718, 2].item() == pytest.approx((position * rate).sin().item(), abs=1e-3)
    assert table[2718, 3].item() == pytest.approx((position * rate).cos().item(), abs=1e-3)


def test_recordings_longer_than_the_originals_position_table() -> None:
    torch.manual_seed(0)
    config = SepFormerConfig(**{**SepFormer.Tiny, "chunk_size": 2, "kernel_size": 4, "stride": 2})
    with torch.no_grad():
        estimates = SepFormer(config).eval()(torch.randn(1, 6000))
    assert estimates.shape == (1, 2, 6000)
    assert estimates[..., 5500:].abs().max() > 0


def test_bfloat16_is_close() -> None:
    torch.manual_seed(0)
    model = SepFormer(SepFormerConfig(**SepFormer.Tiny)).eval()
    mixture = torch.randn(2, 800)
    exact = model(mixture)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(mixture)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("values", "message"), [({"chunk_size": 251}, "even"), ({"num_heads": 7}, "multiple of num_heads")]
)
def test_impossible_configurations(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SepFormerConfig(**values)
