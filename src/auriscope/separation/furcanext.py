"""FurcaNeXt: Conv-TasNet's dilated convolutions with gates, and in every block several branches that are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.separation.convtasnet import ConvTasNetConfig, TemporalConvMasker
from auriscope.separation.filters import begin_harmonic, check_initial_filters
from auriscope.separation.layers import Decoder, Encoder, MaskingModel


@dataclass(frozen=True)
class FurcaNeXtConfig(ConvTasNetConfig):
    """The configuration of FurcaNeXt: the fields are those of Conv-TasNet, and two more.

    ``num_branches`` is how many gated branches a block has. ``initial_filters`` is ``"random"`` or ``"harmonic"``:
    windowed sines and cosines with both signs; ``num_filters`` is then twice the ``kernel_size``, and the ``stride``
    half of it.
    """

    num_filters: int = 256
    kernel_size: int = 20
    stride: int = 10
    bottleneck_channels: int = 256
    skip_channels: int = 0
    num_repeats: int = 4
    num_branches: int = 3
    initial_filters: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_initial_filters(self.initial_filters, self.num_filters, self.kernel_size, self.stride)
        plain = {"norm": "global", "causal": False, "skip_channels": 0, "block_padding": "zeros"}
        for name, value in plain.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} must be {value!r}: the gated blocks have no other")
        if self.num_branches < 1:
            raise ValueError("num_branches must be at least 1")


class FurcaNeXt(MaskingModel, name="separation/furcanext"):
    """FurcaNeXt: gated temporal convolutions whose blocks are small ensembles.

    Z. Shi, H. Lin, L. Liu, R. Liu, J. Han, "FurcaNeXt: End-to-End Monaural Speech Separation with Dynamic Gated
    Dilated Temporal Convolutional Networks", MMM 2020, arXiv 1902.04891; the variant with parallel convolutional
    components inside every block (FurcaPa).

    Published: SDR improvement 18.4 dB on WSJ0-2Mix; 51.4 M parameters (51.47 M here).

    The paper describes four variants of a gated temporal convolutional network (multi-scale pyramids, parallel
    components, shared weights, differences), and we had no list of its sizes. Chosen here: the parallel components,
    whose average makes a small ensemble of every block; for each of them Conv-TasNet's block, and a second one whose
    sigmoid gates the first; three such pairs in each of 4 repeats of 8 blocks with 256 and 512 channels, which add up
    to the published number of parameters. The paper trains for the SDR of whole utterances under the best
    permutation, in the form that does not see the scale: the SI-SNR that most separators here are trained for.
    """

    Config = FurcaNeXtConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 16,
        "kernel_size": 16,
        "stride": 8,
        "bottleneck_channels": 8,
        "hidden_channels": 8,
        "num_blocks": 2,
        "num_repeats": 2,
        "num_branches": 2,
    }
    Published: ClassVar[dict[str, float]] = {"SDRi on WSJ0-2Mix (dB)": 18.4, "parameters (million)": 51.4}

    def __init__(self, config: FurcaNeXtConfig) -> None:
        filters = (config.num_filters, config.kernel_size, config.stride)
        encoder = Encoder(*filters, activation=config.encoder_activation)
        super().__init__(config, encoder, TemporalConvMasker(config, GatedBranchesBlock), Decoder(*filters))
        if config.initial_filters == "harmonic":
            begin_harmonic(self.encoder, self.decoder)


class GatedBranchesBlock(nn.Module):
    """The mean over P branches of v * sigmoid(g), where v and g are each a block of Conv-TasNet.

    All 2 P blocks, the values first and then the gates, go through the same convolutions side by side, as groups of
    channels.
    """

    def __init__(self, config: FurcaNeXtConfig, dilation: int, has_residual: bool) -> None:  # noqa: ARG002
        super().__init__()
        groups, channels = 2 * config.num_branches, config.bottleneck_channels
        hidden = groups * config.hidden_channels
        self.num_branches = config.num_branches
        reach = (config.block_kernel_size - 1) * dilation
        self.expand = nn.Conv1d(channels, hidden, 1)
        self.slope1 = nn.Parameter(torch.full((groups,), 0.25))
        self.norm1 = GroupedLayerNorm(groups, hidden)
        self.depthwise = nn.Conv1d(
            hidden, hidden, config.block_kernel_size, padding=reach // 2, dilation=dilation, groups=hidden
        )
        self.slope2 = nn.Parameter(torch.full((groups,), 0.25))
        self.norm2 = GroupedLayerNorm(groups, hidden)
        self.residual = nn.Conv1d(hidden, groups * channels, 1, groups=groups)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, None]:
        """Channels (B, C, F) to the residual (B, C, F); there is no skip."""
        x = self.norm1(self._prelu(self.expand(x), self.slope1), mask)
        if mask is not None:
            # The convolution must see the zeros beyond the last frame that it sees in an example on its own.
            x = x * mask
        x = self.residual(self.norm2(self._prelu(self.depthwise(x), self.slope2), mask))
        values, gates = x.view(x.shape[0], 2, self.num_branches, -1, x.shape[-1]).unbind(1)
        return (values * gates.sigmoid()).mean(1), None

    def _prelu(self, x: Tensor, slopes: Tensor) -> Tensor:
        return F.prelu(x, slopes.repeat_interleave(x.shape[1] // len(slopes)))


class GroupedLayerNorm(nn.Module):
    """Global layer norm of every group of channels on its own, then a scale and a shift for each channel."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.num_groups, self.eps = num_groups, eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise x (B, C, F); with a ``mask`` (B, 1, F), only marked frames count."""
        x = x.float()
        if mask is None:
            return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        grouped = x.view(x.shape[0], self.num_groups, -1, x.shape[-1])
        marked = mask[:, :, None].to(x.dtype)
        count = marked.sum(-1, keepdim=True) * grouped.shape[2]
        mean = (grouped * marked).sum((2, 3), keepdim=True) / count
        variance = ((grouped - mean).square() * marked).sum((2, 3), keepdim=True) / count
        normalised: Tensor = ((grouped - mean) * torch.rsqrt(variance + self.eps)).flatten(1, 2)
        return normalised * self.weight[:, None] + self.bias[:, None]
