from __future__ import annotations

from typing import Any

import pytest
import torch

from auriscope.nn.htsat import HTSAT, HTSATConfig, WindowAttention

SMALL: dict[str, Any] = {
    "num_mels": 16,
    "image_size": 32,
    "dim": 8,
    "num_layers": (2, 1),
    "num_heads": (2, 2),
    "window_size": 4,
}


@torch.no_grad()
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_patches_see_those_of_their_window_and_no_others(shift: int) -> None:
    torch.manual_seed(0)
    size, window = 8, 4
    attention = WindowAttention(6, 2, size, window, shift)
    attention.bias.normal_()
    image = torch.randn(1, size, size, 6)
    for row, column in ((0, 0), (3, 5), (7, 2), (size - 1, size - 1)):
        changed = image.clone()
        changed[0, row, column] += 1.0
        moved = ((attention(changed) - attention(image)).abs().sum(-1) > 1e-6)[0]
        # Windows begin at the shift; what lies before belongs to windows that the edge has cut off.
        own = [(place - shift) // window for place in (row, column)]
        places = (torch.arange(size) - shift).div(window, rounding_mode="floor")
        assert torch.equal(moved, (places == own[0])[:, None] & (places == own[1]))


@torch.no_grad()
def test_a_padded_batch_is_each_sound_alone() -> None:
    torch.manual_seed(0)
    network = HTSAT(HTSATConfig(**SMALL)).eval()
    features, frame_lengths = torch.randn(3, 60, 16), torch.tensor([60, 11, 37])
    together = network(features, frame_lengths)
    for row, length, vector in zip(features, frame_lengths.tolist(), together, strict=True):
        torch.testing.assert_close(vector, network(row[None, :length])[0])
    features[1, 11:] = torch.nan
    torch.testing.assert_close(network(features, frame_lengths), together)


def test_frames_must_fit_into_the_image() -> None:
    config = HTSATConfig(**SMALL)
    assert config.num_frames == 64
    with pytest.raises(ValueError, match="65 frames do not fit into an image of 64"):
        HTSAT(config)(torch.zeros(1, 65, 16))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_heads": (2,)}, "as many stages"),
        ({"num_mels": 15}, "multiple of num_mels"),
        ({"num_layers": (1,) * 5, "num_heads": (1,) * 5}, "windows of stage 5"),
        ({"window_size": 3}, "windows of stage 1"),
        ({"num_heads": (3, 2)}, "channels of stage 1"),
        ({"fuses": True, "fusion_ratio": 9}, "fusion_ratio"),
    ],
)
def test_sizes_must_divide(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        HTSATConfig(**{**SMALL, **changes})
