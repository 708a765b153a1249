"""The operations written for speed against torch's own, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from auriscope.separation.kernels import ChannelPReLU, DepthwiseConv, ShiftedDepthwiseConv, add_upsampled, project


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


@pytest.mark.parametrize(
    ("kernel_size", "padding", "dilation"), [(3, 1, 1), (3, 8, 4), (5, 8, 4), (2, 3, 3), (3, 6, 2)]
)
def test_shifted_channels_are_torchs_convolution(kernel_size: int, padding: int, dilation: int) -> None:
    torch.manual_seed(0)
    ours = ShiftedDepthwiseConv(6, 6, kernel_size, padding=padding, dilation=dilation, groups=6).double()
    theirs = nn.Conv1d(6, 6, kernel_size, padding=padding, dilation=dilation, groups=6).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 40, dtype=torch.float64, requires_grad=True)
    expected = theirs(x)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(ours(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected)
    gradients = []
    for layer in (ours, theirs):
        x.grad = None
        layer.zero_grad()
        (layer(x) * weights).sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in layer.parameters())])
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("bias", [True, False])
def test_projections_equal_those_of_the_layer(bias: bool) -> None:
    torch.manual_seed(0)
    layer, steps = nn.Linear(6, 10, bias=bias), torch.randn(4, 30, 6).transpose(0, 1)
    expected = layer(steps)
    with torch.no_grad():
        torch.testing.assert_close(project(layer, steps), expected)
        torch.testing.assert_close(project(layer.double(), steps.double()).float(), expected)
    assert project(layer.float(), steps).requires_grad
