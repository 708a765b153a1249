"""Attention against torch's own, and prefixes that share their past against each prefix alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auriscope.nn.attention import MultiHeadAttention, PrefixCache, attention_weights, sinusoids
from auriscope.nn.masks import length_mask
from auriscope.nn.transformer import TransformerDecoder, TransformerEncoder, TransformerLayer

DIM, HEADS = 16, 4


@pytest.fixture
def pair() -> tuple[nn.MultiheadAttention, MultiHeadAttention]:
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours = MultiHeadAttention(DIM, HEADS)
    names = {"in_proj_weight": "project.weight", "in_proj_bias": "project.bias"}
    ours.load_state_dict({names.get(k, k.replace("out_proj", "out")): v for k, v in theirs.state_dict().items()})
    return theirs, ours


def test_equals_torch(pair: tuple[nn.MultiheadAttention, MultiHeadAttention]) -> None:
    theirs, ours = pair
    query, memory = torch.randn(3, 5, DIM), torch.randn(3, 7, DIM)
    lengths = torch.tensor([7, 4, 1])
    valid = length_mask(lengths, 7)
    expected, expected_map = theirs(query, memory, memory, key_padding_mask=~valid)
    found, found_map = ours(query, memory, valid[:, None, None], need_weights=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_map, expected_map)
    quick, no_map = ours(query, memory, valid[:, None, None])
    assert no_map is None
    torch.testing.assert_close(quick, expected)


@pytest.mark.parametrize("need_weights", [True, False])
def test_causal_equals_torch(pair: tuple[nn.MultiheadAttention, MultiHeadAttention], need_weights: bool) -> None:
    theirs, ours = pair
    x = torch.randn(2, 6, DIM)
    future = torch.ones(6, 6, dtype=torch.bool).triu(1)
    expected, expected_map = theirs(x, x, x, attn_mask=future)
    found, found_map = ours(x, causal=True, need_weights=need_weights)
    torch.testing.assert_close(found, expected)
    if need_weights:
        torch.testing.assert_close(found_map, expected_map)


def test_the_map_is_the_formula() -> None:
    query, key = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5)
    products = torch.einsum("bhqd,bhkd->bhqk", query, key) / 5**0.5
    expected = products.exp() / products.exp().sum(-1, keepdim=True)
    torch.testing.assert_close(attention_weights(query, key), expected)


def test_dim_must_fit_the_heads() -> None:
    with pytest.raises(ValueError, match="multiple of num_heads"):
        MultiHeadAttention(10, 4)


def test_sinusoids_are_the_papers() -> None:
    table = sinusoids(3, 2, 6)
    for row, position in enumerate((3, 4)):
        for channel in range(6):
            angle = torch.tensor(position / 10_000 ** (2 * (channel // 2) / 6))
            expected = angle.sin() if channel % 2 == 0 else angle.cos()
            torch.testing.assert_close(table[row, channel], expected, rtol=1e-5, atol=1e-6)


NAMES = {
    "self_attn": "attention",
    "multihead_attn": "cross",
    "in_proj_": "project.",
    "out_proj": "out",
    "linear1": "feed_forward.0",
    "linear2": "feed_forward.3",
}
NORMS = {False: ("attention", "feed_forward"), True: ("attention", "cross", "feed_forward")}


def _copy(theirs: nn.Module, ours: TransformerLayer) -> None:
    """Give both layers the same random weights."""
    names = NAMES | {f"norm{n}": f"{part}_norm" for n, part in enumerate(NORMS[ours.cross is not None], 1)}
    copied = {}
    for key, value in theirs.state_dict().items():
        value.copy_(0.3 * torch.randn_like(value))
        for old, new in names.items():
            key = key.replace(old, new)
        copied[key] = value
    ours.load_state_dict(copied)


@pytest.mark.parametrize("norm_first", [True, False])
def test_layers_equal_torch(norm_first: bool) -> None:
    torch.manual_seed(1)
    x, frames = torch.randn(2, 5, DIM), torch.randn(2, 7, DIM)
    valid = length_mask(torch.tensor([7, 4]), 7)
    settings = {"batch_first": True, "norm_first": norm_first, "layer_norm_eps": 1e-6, "activation": "gelu"}
    theirs = nn.TransformerDecoderLayer(DIM, HEADS, 32, 0.0, **settings)
    ours = TransformerLayer(DIM, HEADS, 32, 0.0, cross=True, activation="gelu", norm_first=norm_first, eps=1e-6)
    _copy(theirs, ours)
    future = torch.ones(5, 5, dtype=torch.bool).triu(1)
    expected = theirs(x, frames, tgt_mask=future, memory_key_padding_mask=~valid)
    found, _ = ours(x, lambda attention, y: attention(y, causal=True)[0], ours.remember(frames), valid[:, None, None])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    theirs_alone = nn.TransformerEncoderLayer(DIM, HEADS, 32, 0.0, **settings)
    ours_alone = TransformerLayer(DIM, HEADS, 32, 0.0, activation="gelu", norm_first=norm_first, eps=1e-6)
    _copy(theirs_alone, ours_alone)
    found, _ = ours_alone(x, lambda attention, y: attention(y)[0])
    torch.testing.assert_close(found, theirs_alone(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="looks at no frames"):
        ours_alone.remember(frames)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match="must be one of gelu, relu"):
        TransformerLayer(DIM, HEADS, 32, 0.0, activation="tanh")  # type: ignore[arg-type]


def test_the_encoder_does_not_see_padding() -> None:
    torch.manual_seed(2)
    encoder = TransformerEncoder(DIM, num_layers=2, num_heads=HEADS, hidden_size=32).eval()
    x = torch.randn(2, 6, DIM)
    together = encoder(x, torch.tensor([6, 4]))
    torch.testing.assert_close(together[1:, :4], encoder(x[1:, :4]), rtol=1e-5, atol=1e-5)
    assert not together[1, 4:].any()


@pytest.fixture
def decoder() -> TransformerDecoder:
    torch.manual_seed(3)
    return TransformerDecoder(11, DIM, num_layers=2, num_heads=HEADS, hidden_size=32).eval()


@torch.no_grad()
def test_step_by_step_equals_teacher_forcing_however_a_beam_is_reordered(decoder: TransformerDecoder) -> None:
    """Long enough for the slots of lost prefixes to be swept out, several times."""
    batch, beam = 2, 3
    frames, frame_lengths = torch.randn(batch, 7, DIM), torch.tensor([7, 4])
    state = decoder.start(batch, beam, frames, frame_lengths)
    prefixes = torch.zeros(batch, beam, 0, dtype=torch.int64)
    most = 0
    for length in range(1, 91):
        tokens = torch.randint(0, 11, (batch, beam))
        prefixes = torch.cat((prefixes, tokens[..., None]), 2)
        logits, state, weights = decoder.step(tokens, state)
        most = max(most, state.cache.num_slots)
        if length < 6 or length % 7 == 0:
            rows = frames.repeat_interleave(beam, 0), frame_lengths.repeat_interleave(beam)
            expected = decoder(prefixes.flatten(0, 1), *rows)[:, -1].unflatten(0, (batch, beam))
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        assert weights is not None
        assert weights.shape == (batch, beam, 7)
        torch.testing.assert_close(weights.sum(-1), torch.ones(batch, beam))
        assert not weights[1, :, 4:].any()
        parents = torch.randint(0, beam, (batch, beam))
        prefixes = prefixes.gather(1, parents[..., None].expand_as(prefixes))
        state = state.select(parents)
    assert most < 90 * beam  # what nobody needs is not kept


@torch.no_grad()
def test_a_beam_may_grow_shrink_and_lose_utterances(decoder: TransformerDecoder) -> None:
    frames = torch.randn(3, 5, DIM)
    state = decoder.start(3, 1, frames)
    _, state, _ = decoder.step(torch.tensor([[1], [2], [3]]), state)
    state = state.select(torch.zeros(3, 4, dtype=torch.int64))
    second = torch.arange(12).reshape(3, 4) % 11
    _, state, _ = decoder.step(second, state)
    kept = torch.tensor([2, 0])
    state = state.keep(kept).select(torch.tensor([[3, 1], [0, 0]]))
    logits, _, _ = decoder.step(torch.tensor([[5, 6], [7, 8]]), state)
    first, chosen = torch.tensor([3, 3, 1, 1]), torch.stack((second[2, 3], second[2, 1], second[0, 0], second[0, 0]))
    prefixes = torch.stack((first, chosen, torch.tensor([5, 6, 7, 8])), 1)
    expected = decoder(prefixes, frames[kept].repeat_interleave(2, 0))[:, -1]
    torch.testing.assert_close(logits.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_two_ways_from_one_state_do_not_disturb_each_other(decoder: TransformerDecoder) -> None:
    frames = torch.randn(1, 5, DIM)
    _, state, _ = decoder.step(torch.tensor([[1, 1]]), decoder.start(1, 2, frames))
    _, one, _ = decoder.step(torch.tensor([[2, 3]]), state)
    _, other, _ = decoder.step(torch.tensor([[4, 5]]), state)
    logits, _, _ = decoder.step(torch.tensor([[6, 7]]), one)
    expected = decoder(torch.tensor([[1, 2, 6], [1, 3, 7]]), frames.expand(2, -1, -1))[:, -1]
    torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-5)
    logits, _, _ = decoder.step(torch.tensor([[6, 7]]), other)
    expected = decoder(torch.tensor([[1, 4, 6], [1, 5, 7]]), frames.expand(2, -1, -1))[:, -1]
    torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-5)


def test_prefixes_that_share_a_past_share_its_slots() -> None:
    cache = PrefixCache.empty(1, 1, 8, 2, 4, torch.zeros(()))
    for _ in range(200):
        cache = cache.extended()
        cache = cache.select(torch.zeros(1, 8, dtype=torch.int64))
    assert cache.num_tokens == 200
    assert cache.num_slots < 3 * 200
    own: Tensor = cache.mask()[0, 0]
    assert (own.sum(1) == 200).all()


def test_gradients_flow_through_maps_and_masks() -> None:
    torch.manual_seed(4)
    layer = MultiHeadAttention(DIM, HEADS, dropout=0.5)
    x = torch.randn(2, 3, DIM, requires_grad=True)
    output, weights = layer(x, mask=torch.eye(3, dtype=torch.bool), need_weights=True)
    assert weights is not None
    torch.testing.assert_close(weights, torch.eye(3).expand(2, -1, -1))
    output.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
