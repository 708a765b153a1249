"""Operations on frames whose plain forms in torch are slow on a CPU.

Frames are (B, F, C), channels last, but for :class:`ShiftedDepthwiseConv`, which takes (B, C, F).

Backward passes are written out where torch's own cost many times as much as the sums that they are: for a depthwise
convolution and for PReLU, whose weights' gradients are reductions over all frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DepthwiseConv(nn.Conv1d):
    """A convolution of every channel with its own filter, over frames (B, F, C), with as many zeros around as it needs.

    With ``stride`` s, F frames give ceil(F / s). ``kernel_size`` is odd; the weights are those of ``torch.nn.Conv1d``.
    """

    def __init__(self, num_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            num_channels,
            num_channels,
            kernel_size,
            stride=stride,
            padding=(kernel_size - 1) // 2 * dilation,
            dilation=dilation,
            groups=num_channels,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve frames (B, F, C) into (B, ceil(F / stride), C)."""
        assert self.bias is not None
        # Under autocast the frames may be bfloat16.
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if not torch.is_grad_enabled():
            return _convolve(x, weight, bias, self.stride[0], self.dilation[0])
        convolved: Tensor = _DepthwiseConv.apply(x, weight, bias, self.stride[0], self.dilation[0])  # type: ignore[no-untyped-call]
        return convolved


class ChannelPReLU(nn.PReLU):
    """PReLU of frames (B, F, C) with one slope, or with one a channel; with one slope, of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale what is negative; the shape stays."""
        weight = self.weight.to(x.dtype)
        if not torch.is_grad_enabled():
            return _prelu(x, weight)
        activated: Tensor = _PReLU.apply(x, weight)  # type: ignore[no-untyped-call]
        return activated


class ShiftedDepthwiseConv(nn.Conv1d):
    """A convolution of every channel of (B, C, F) with its own short filter, stride 1, as a sum of shifted channels.

    The same as ``torch.nn.Conv1d`` with ``groups`` equal to the channels, whose kernel for dilated filters takes ten
    times as long as these sums on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve channels (B, C, F) into (B, C, F + 2 padding - dilation (kernel_size - 1))."""
        assert self.bias is not None
        # Under autocast the channels may be bfloat16.
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if x.device.type != "cpu":
            return F.conv1d(x, weight, bias, padding=self.padding, dilation=self.dilation, groups=self.groups)
        if not torch.is_grad_enabled():
            return _sum_shifted(x, weight, bias, int(self.padding[0]), self.dilation[0])
        convolved: Tensor = _ShiftedDepthwiseConv.apply(x, weight, bias, int(self.padding[0]), self.dilation[0])  # type: ignore[no-untyped-call]
        return convolved


def project(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer, or what quantisation put in its place, to sequences (M, T, C) by the quicker kernel.

    Without gradients in single precision on a CPU that is oneDNN's rather than the BLAS library's, which on processors
    of some makes is two to three times slower.
    """
    if (
        not isinstance(layer, nn.Linear)
        or x.device.type != "cpu"
        or x.dtype != torch.float32
        or torch.is_grad_enabled()
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or not torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    ):
        projected: Tensor = layer(x)
        return projected
    # The same product as a convolution with a kernel of one, channels last. F.conv2d would come to it with several
    # threads only.
    image = x[None].permute(0, 3, 1, 2)
    weight = layer.weight[:, :, None, None]
    return torch.mkldnn_convolution(image, weight, layer.bias, (0, 0), (1, 1), (1, 1), 1).permute(0, 2, 3, 1)[0]


def add_upsampled(x: Tensor, half: Tensor) -> Tensor:
    """Add every frame of ``half`` (B, ceil(F / 2), C) to the two frames of ``x`` (B, F, C) it stands for."""
    batch, num_frames, channels = x.shape
    if num_frames % 2:
        even = add_upsampled(x[:, :-1], half[:, :-1])
        return torch.cat([even, x[:, -1:] + half[:, -1:]], dim=1)
    pairs = x.reshape(batch, num_frames // 2, 2, channels)
    return (pairs + half[:, :, None]).view(batch, num_frames, channels)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, dilation: int) -> Tensor:
    # As an image of one row whose channels come last, which oneDNN takes as it lies in memory: a one-dimensional
    # convolution would be copied into another order and back, which takes longer than to compute it.
    image = x.contiguous().transpose(1, 2)[:, :, None]
    channels, _, kernel_size = weight.shape
    with torch.autocast(x.device.type, enabled=False):
        image = F.conv2d(
            image,
            weight[:, :, None],
            bias,
            stride=(1, stride),
            padding=(0, kernel_size // 2 * dilation),
            dilation=(1, dilation),
            groups=channels,
        )
    return image[:, :, 0].transpose(1, 2)


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return _convolve(x, weight, bias, stride, dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        stride, dilation, kernel_size = ctx.stride, ctx.dilation, weight.shape[-1]
        num_frames = x.shape[1]
        # What comes before is a convolution, too: with the filters reversed, of the gradient at every stride-th frame.
        spread = gradient
        if stride > 1:
            spread = torch.zeros_like(x)
            spread[:, ::stride] = gradient
        for_x = _convolve(spread, weight.flip(-1), None, 1, dilation)
        for_weight = torch.empty_like(weight)
        for index in range(kernel_size):
            # Output frame j reads frame j * stride + offset: those j for which there is one.
            offset = (index - kernel_size // 2) * dilation
            first = max(0, -(offset // stride))
            last = min(gradient.shape[1] - 1, (num_frames - 1 - offset) // stride)
            if last < first:
                for_weight[:, 0, index] = 0
                continue
            read = x[:, first * stride + offset : last * stride + offset + 1 : stride]
            for_weight[:, 0, index] = (gradient[:, first : last + 1] * read).sum((0, 1))
        return for_x, for_weight, gradient.sum((0, 1)), None, None


def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    return F.prelu(x.transpose(1, -1), weight).transpose(1, -1)


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _prelu(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        for_x = torch.where(x > 0, gradient, gradient * weight)
        for_weight = (x.clamp(max=0) * gradient).sum(tuple(range(x.ndim - 1)))
        return for_x, for_weight if weight.numel() > 1 else for_weight.sum(0, keepdim=True)


def _sum_shifted(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, dilation: int) -> Tensor:
    """Add up channels (B, C, F), each shifted by a tap's distance and scaled by the tap; zeros lie beyond the ends."""
    padded = F.pad(x, (padding, padding))
    num_taps = weight.shape[-1]
    num_frames = padded.shape[-1] - (num_taps - 1) * dilation
    if bias is None:
        total = padded[..., :num_frames] * weight[:, 0, :1]
    else:
        total = torch.addcmul(bias[:, None], padded[..., :num_frames], weight[:, 0, :1])
    for tap in range(1, num_taps):
        first = tap * dilation
        total.addcmul_(padded[..., first : first + num_frames], weight[:, 0, tap : tap + 1])
    return total


class _ShiftedDepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return _sum_shifted(x, weight, bias, padding, dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        padding, dilation, num_frames = ctx.padding, ctx.dilation, x.shape[-1]
        reach = (weight.shape[-1] - 1) * dilation
        # Output frame t reads input frame t - padding + tap * dilation; the other way round, input frame t has the
        # gradients of the output frames t + padding - tap * dilation, of those that there are.
        padded = F.pad(gradient, (reach, reach))
        for_weight = torch.empty_like(weight)
        for_x: Tensor | None = None
        for tap in range(weight.shape[-1]):
            first = reach + padding - tap * dilation
            read = padded[..., first : first + num_frames]
            scale = weight[:, 0, tap : tap + 1]
            for_x = read * scale if for_x is None else for_x.addcmul_(read, scale)
            for_weight[:, 0, tap] = torch.linalg.vecdot(read, x, dim=-1).sum(0)
        return for_x, for_weight, gradient.sum((0, 2)), None, None
