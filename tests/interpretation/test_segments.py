"""Segments: superpixels against scikit-image's, and what all kinds of them must sum to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.segmentation import quickshift

from auriscope.interpretation.segments import source_segments, superpixels, time_frequency_segments
from auriscope.signal.mel import hz_to_mel


def smooth(seed: int, *shape: int) -> np.ndarray:
    image = gaussian_filter(np.random.default_rng(seed).random(shape), (2, 2, 0))
    return (image - image.min()) / (image.max() - image.min())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [(1.0, 200.0, 0.2), (2.0, 4.0, 0.5)])
def test_superpixels_are_those_of_scikit_image(channels: int, options: tuple[float, float, float]) -> None:
    kernel_size, max_distance, ratio = options
    image = smooth(0, 20, 27, channels)
    expected = quickshift(
        np.broadcast_to(image, (20, 27, 3)), kernel_size=kernel_size, max_dist=max_distance, ratio=ratio, rng=0
    )
    batch = torch.from_numpy(np.stack([image, 0.5 * image])).movedim(-1, 1).float()
    found = superpixels(batch, kernel_size=kernel_size, max_distance=max_distance, ratio=ratio)
    assert found.shape == (2, 20, 27)
    number = int(found[0].max()) + 1
    assert number > 8
    # The same partition, whatever its segments are called: as many pairs of names as there are names in each.
    pairs = {(int(a), int(b)) for a, b in zip(expected.ravel(), found[0].ravel(), strict=True)}
    assert len(pairs) == number == expected.max() + 1
    assert torch.equal(
        found[1], superpixels(batch[1:], kernel_size=kernel_size, max_distance=max_distance, ratio=ratio)[0]
    )


def test_superpixels_cut_a_flat_picture_and_part_what_stands_apart() -> None:
    image = torch.zeros(1, 1, 16, 24)
    image[..., 4:10, 2:7], image[..., 4:10, 17:22] = 1.0, 1.0
    found = superpixels(image, kernel_size=1.0, ratio=1.0)
    assert found.unique().tolist() == list(range(int(found.max()) + 1))
    assert 2 < int(found.max()) + 1 < 60, "neither a segment for each pixel nor one for all"
    white = image[0, 0] > 0
    assert not set(found[0][white].tolist()) & set(found[0][~white].tolist())
    assert torch.equal(found, superpixels(image, kernel_size=1.0, ratio=1.0))
    with pytest.raises(ValueError, match="one or three channels"):
        superpixels(torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize(("frames", "bins"), [(50, 129), (3, 9), (1, 1)])
def test_time_frequency_segments_are_spans_and_bands_of_equal_width_in_mel(frames: int, bins: int) -> None:
    labels = time_frequency_segments(frames, bins, num_spans=5, num_bands=4)
    assert labels.shape == (1, frames, bins)
    bands = int(labels[0, 0].max()) + 1
    spans = min(5, frames)
    assert labels.unique().tolist() == list(range(spans * bands))
    assert torch.equal(labels[0] // bands, (torch.arange(frames) * spans // frames)[:, None].expand(-1, bins))
    if bins == 129:
        assert bands == 4
        mel = hz_to_mel(torch.linspace(0, 8000, bins))
        widths = [mel[labels[0, 0] == band].max() - mel[labels[0, 0] == band].min() for band in range(4)]
        assert max(widths) < 1.1 * min(widths) + 1


def test_sources_share_the_power_and_sum_to_the_mixture() -> None:
    magnitude = torch.rand(2, 3, 10, 6, generator=torch.Generator().manual_seed(0))
    magnitude[0, :, 4] = 0.0  # silence: shared alike
    magnitude[1, 2] = 0.0
    masks = source_segments(magnitude, num_spans=4)
    assert masks.shape == (2, 12, 10, 6)
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 10, 6))
    torch.testing.assert_close(masks[0, :, 4].reshape(3, 4, 6).sum(1), torch.full((3, 6), 1 / 3))
    power = magnitude[1].square()
    torch.testing.assert_close(masks[1].unflatten(0, (3, 4)).sum(1), power / power.sum(0), atol=1e-5, rtol=1e-5)
    # A segment lies in its own span only.
    assert masks[0, 0, 3:].sum() == 0
    assert masks[0, 1, :3].sum() == 0
    assert masks[0, 1, 3:5].min() > 0
    assert source_segments(torch.zeros(1, 2, 3, 4)).tolist() == torch.full((1, 2, 3, 4), 0.5).tolist()
    # As loud as in the mixture, the level of the recording plays no part.
    torch.testing.assert_close(source_segments(1e-4 * magnitude, num_spans=4), masks)
