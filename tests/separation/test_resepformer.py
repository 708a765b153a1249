from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from auriscope.separation.resepformer import NormalisedTransformer, RESepFormer, RESepFormerConfig
from auriscope.separation.sepformer import TransformerPath, sinusoids

VARIANTS: list[dict[str, Any]] = [
    {},
    {"num_sources": 3, "num_blocks": 3, "chunk_size": 7},
    {"num_sources": 1, "num_blocks": 1, "kernel_size": 10, "stride": 3},
]


def test_the_papers_size() -> None:
    model = RESepFormer(RESepFormerConfig())
    assert round(model.num_parameters / 1e6, 1) == RESepFormer.Published["parameters (million)"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing(variant: dict[str, Any], check_padding: Any) -> None:
    check_padding(RESepFormer(RESepFormerConfig(**{**RESepFormer.Tiny, **variant})))


@pytest.mark.parametrize("slice_positions", [1, 64, 200])
def test_slices_give_what_the_whole_gives(slice_positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = RESepFormer(RESepFormerConfig(**RESepFormer.Tiny)).eval()
    mixture, lengths = torch.randn(2, 900), torch.tensor([900, 431])
    whole = model(mixture, lengths)
    monkeypatch.setattr(NormalisedTransformer, "slice_positions", slice_positions)
    with torch.no_grad():
        torch.testing.assert_close(model(mixture, lengths), whole, atol=1e-6, rtol=1e-5)


def torchs(path: TransformerPath, channels: int, heads: int, hidden: int) -> nn.TransformerEncoder:
    """The same transformer made of torch's layers."""
    layer = nn.TransformerEncoderLayer(
        channels, heads, hidden, dropout=0.0, layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(
        layer, len(path.layers), nn.LayerNorm(channels, eps=1e-6), enable_nested_tensor=False
    )
    names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj": "out", "linear": "feedforward"}
    values = path.state_dict()
    for name, parameter in encoder.named_parameters():
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        parameter.data.copy_(values[name])
    return encoder.eval()


def transformed(module: NormalisedTransformer, sequence: Tensor) -> Tensor:
    """One sequence (T, C) through torch's transformer, normalised as a group, plus itself."""
    channels = sequence.shape[1]
    encoder = torchs(module.transformer, channels, 2, 32)
    x = encoder((sequence + sinusoids(len(sequence), channels, sequence.device))[None])[0]
    normalised = nn.functional.group_norm(x.T[None], 1, module.norm.weight, module.norm.bias, eps=2**-23)[0].T
    return sequence + normalised


def test_masks_are_those_of_an_obvious_implementation() -> None:
    torch.manual_seed(0)
    config = RESepFormerConfig(**{**RESepFormer.Tiny, "num_sources": 3})
    masker = RESepFormer(config).masker.eval()
    for parameter in masker.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    # Two chunks and a half; then two whole ones, which a third of zeros alone follows.
    for num_frames in (50, 40):
        features = torch.rand(num_frames, config.num_filters)
        padded = torch.cat([features, torch.zeros(60 - num_frames, config.num_filters)])
        chunks = [padded[start : start + 20] for start in (0, 20, 40)]
        with torch.no_grad():
            chunks = [transformed(masker.blocks[0], chunk) for chunk in chunks]
            summaries = transformed(masker.memories[0], torch.stack([chunk.mean(0) for chunk in chunks]))
            chunks = [transformed(masker.blocks[1], chunk + row) for chunk, row in zip(chunks, summaries, strict=True)]
            x = torch.cat(chunks)[:num_frames]
            x = torch.where(x > 0, x, masker.prelu.weight * x)
            x = (x @ masker.to_masks.weight.T + masker.to_masks.bias).relu()
            masks = masker(features[None])[0]
        assert masks.shape == (3, num_frames, config.num_filters)
        for source in range(3):
            torch.testing.assert_close(masks[source], x[:, source::3], atol=1e-5, rtol=1e-4)


def test_mixtures_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    model = RESepFormer(RESepFormerConfig(**RESepFormer.Tiny)).eval()
    mixture = torch.randn(2, 900)
    changed = torch.stack([mixture[0], torch.randn(900)])
    with torch.no_grad():
        torch.testing.assert_close(model(changed)[0], model(mixture)[0])


@pytest.mark.parametrize("values", [{"num_filters": 15, "num_heads": 1}, {"num_heads": 3}, {"chunk_size": 0}])
def test_sizes_that_do_not_fit(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RESepFormerConfig(**values)
