from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from auriscope.nn.masks import length_mask
from auriscope.separation.layers import (
    ChannelLayerNorm,
    Chunking,
    CumulativeLayerNorm,
    Decoder,
    Encoder,
    GlobalLayerNorm,
    overlap_add,
    split_chunks,
)


@pytest.mark.parametrize(("size", "hop", "num_frames"), [(10, 5, 43), (10, 5, 3), (9, 4, 30), (8, 8, 21), (7, 3, 7)])
def test_chunks_are_torchs_unfold_and_fold(size: int, hop: int, num_frames: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, num_frames, 3)
    chunking = Chunking(size, hop, padding=size)
    chunks = split_chunks(x, chunking)
    images = {"kernel_size": (size, 1), "padding": (size, 0), "stride": (hop, 1)}
    unfolded = F.unfold(x.transpose(1, 2)[..., None], **images)
    torch.testing.assert_close(chunks, unfolded.view(2, 3, size, -1).permute(0, 3, 2, 1), atol=0, rtol=0)
    folded = F.fold(unfolded, (num_frames, 1), **images)
    added = overlap_add(chunks, hop, padding=size, num_frames=num_frames)
    torch.testing.assert_close(added, folded[..., 0].transpose(1, 2))


@pytest.mark.parametrize("num_frames", [1, 4, 5, 9, 10, 11, 26, 100])
def test_chunks_in_pairs_cover_every_frame_twice(num_frames: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, num_frames, 3)
    chunking = Chunking(10, 5, padding=5, in_pairs=True)
    chunks = split_chunks(x, chunking)
    assert chunks.shape[1] == chunking.num_chunks(num_frames)
    assert chunks.shape[1] % 2 == 0
    torch.testing.assert_close(overlap_add(chunks, 5, padding=5, num_frames=num_frames), 2 * x)


@pytest.mark.parametrize("num_frames", [1, 9, 10, 11, 100])
def test_chunks_side_by_side_cover_every_frame_once(num_frames: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, num_frames, 3)
    chunking = Chunking(10, 10, padding=0)
    chunks = split_chunks(x, chunking)
    assert chunks.shape[1] == chunking.num_chunks(num_frames) == -(-num_frames // 10)
    torch.testing.assert_close(overlap_add(chunks, 10, padding=0, num_frames=num_frames), x, atol=0, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_global_norm_is_a_group_norm_of_one_group(channels_last: bool) -> None:
    torch.manual_seed(0)
    norm = GlobalLayerNorm(6, channels_last=channels_last)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = 3 + 2 * torch.randn(2, 6, 5, 7)
    expected = F.group_norm(x, 1, norm.weight, norm.bias, 1e-8)
    result = norm(x.movedim(1, -1)).movedim(-1, 1) if channels_last else norm(x)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_masked_global_norm_leaves_the_padding_out() -> None:
    torch.manual_seed(0)
    norm = GlobalLayerNorm(6)
    x = torch.randn(2, 6, 20)
    lengths = torch.tensor([20, 11])
    result = norm(x, length_mask(lengths, 20)[:, None])
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(result[row : row + 1, :, :length], norm(x[row : row + 1, :, :length]))


def test_channel_norm_in_both_layouts() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 7)
    first, last = ChannelLayerNorm(6), ChannelLayerNorm(6, channels_last=True)
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-8).sqrt()
    torch.testing.assert_close(first(x), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(last(x.movedim(1, -1)).movedim(-1, 1), expected, atol=1e-5, rtol=1e-4)


def test_cumulative_norm_at_each_frame_is_the_global_norm_up_to_it() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 9)
    cumulative, overall = CumulativeLayerNorm(6), GlobalLayerNorm(6)
    result = cumulative(x)
    for frame in range(9):
        expected = overall(x[..., : frame + 1])[..., frame]
        torch.testing.assert_close(result[..., frame], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kernel_size", "stride", "num_samples"), [(16, 8, 333), (2, 1, 50), (20, 7, 100), (16, 8, 5)])
def test_filterbank_is_a_convolution_and_its_transpose(kernel_size: int, stride: int, num_samples: int) -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(12, kernel_size, stride), Decoder(12, kernel_size, stride)
    mixture = torch.randn(2, num_samples)
    features = encoder(mixture)
    padded = F.pad(mixture, (0, max(0, kernel_size - num_samples)))
    torch.testing.assert_close(features, F.conv1d(padded[:, None], encoder.weight, stride=stride))
    assert (encoder.num_frames(torch.tensor([num_samples])) == features.shape[-1]).all()
    waveform = F.conv_transpose1d(features, decoder.weight, stride=stride)[:, 0]
    expected = F.pad(waveform, (0, num_samples - waveform.shape[-1]))
    result = decoder(features.transpose(1, 2)[:, None], num_samples)
    torch.testing.assert_close(result[:, 0], expected, atol=1e-5, rtol=1e-4)
