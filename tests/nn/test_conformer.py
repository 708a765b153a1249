from __future__ import annotations

import pytest
import torch

from auriscope.nn.conformer import Conformer, rotary, rotate


def tiny(**changes: int) -> Conformer:
    torch.manual_seed(0)
    return Conformer(20, 16, **{"num_layers": 2, "num_heads": 2, "kernel_size": 5, "channels": 3} | changes).eval()


@pytest.mark.parametrize("frames", [1, 2, 5, 40, 41])
def test_a_quarter_of_the_frames_is_left(frames: int) -> None:
    states, lengths = tiny()(torch.randn(2, frames, 20), torch.tensor([frames, frames]))
    assert states.shape == (2, -(-frames // 4), 16)
    assert lengths.tolist() == [states.shape[1]] * 2


def test_padding_changes_nothing() -> None:
    model, features = tiny(), torch.randn(3, 61, 20)
    lengths = torch.tensor([61, 30, 3])
    valid = torch.arange(61)[None, :, None] < lengths[:, None, None]
    states, state_lengths = model(features * valid, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone, own = model(features[item : item + 1, :length], torch.tensor([length]))
        assert own.item() == state_lengths[item].item()
        torch.testing.assert_close(states[item, : own.item()], alone[0], rtol=1e-5, atol=1e-5)
        assert not states[item, own.item() :].any()


def test_rotated_products_depend_on_the_distance_alone() -> None:
    query, key = torch.randn(8), torch.randn(8)
    turns = rotary(12, 8, query.device)
    queries, keys = rotate(query.expand(12, 8), *turns), rotate(key.expand(12, 8), *turns)
    products = queries @ keys.T
    for distance in range(-11, 12):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(products[0, 0], products[0, 5])


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of twice num_heads 3"):
        tiny(num_heads=3)
    with pytest.raises(ValueError, match="kernel_size 4 must be odd"):
        tiny(kernel_size=4)
