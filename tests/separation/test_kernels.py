"""The operations written for speed against torch's own, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from auriscope.separation.kernels import ChannelPReLU, DepthwiseConv, add_upsampled


@pytest.mark.parametrize("num_frames", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 4])
def test_depthwise_convolution(num_frames: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    layer = DepthwiseConv(3, 5, stride, dilation).double()
    x = torch.randn(2, num_frames, 3, dtype=torch.double, requires_grad=True)
    expected = nn.Conv1d.forward(layer, x.transpose(1, 2)).transpose(1, 2)
    output = layer(x)
    torch.testing.assert_close(output, expected)
    with torch.no_grad():
        assert torch.equal(layer(x), output)
    upstream = torch.randn_like(output)
    inputs = [x, layer.weight, layer.bias]
    torch.testing.assert_close(
        torch.autograd.grad(output, inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    )


@pytest.mark.parametrize("num_slopes", [1, 3])
def test_prelu(num_slopes: int) -> None:
    torch.manual_seed(0)
    layer = ChannelPReLU(num_slopes).double()
    x = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)
    expected = F.prelu(x.transpose(1, 2), layer.weight).transpose(1, 2)
    output = layer(x)
    torch.testing.assert_close(output, expected)
    with torch.no_grad():
        assert torch.equal(layer(x), output)
    upstream = torch.randn_like(output)
    inputs = [x, layer.weight]
    torch.testing.assert_close(
        torch.autograd.grad(output, inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    )


@pytest.mark.parametrize("num_frames", [1, 6, 7])
def test_upsampled_frames_are_added_to_both_they_stand_for(num_frames: int) -> None:
    torch.manual_seed(0)
    x, half = torch.randn(2, num_frames, 3), torch.randn(2, (num_frames + 1) // 2, 3)
    expected = x + half.repeat_interleave(2, dim=1)[:, :num_frames]
    torch.testing.assert_close(add_upsampled(x, half), expected)
