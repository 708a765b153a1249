"""Layers that several synthesisers use: stacks of convolutions, and the net before the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvStack(nn.Module):
    """Convolutions over time with batch normalisation: (batch, positions, channels) to (batch, positions, last size).

    Behind every layer comes the activation, ``F.relu`` or ``torch.tanh``, and dropout; behind the last one no
    activation if it is ``linear_end``. The names of the weights are those of SpeechBrain's Tacotron 2.

    Args:
        inputs: channels that come in.
        sizes: channels of each layer.
        kernel_size: of all of them, odd.
        activation: "relu", or "tanh".
        dropout: probability.
        linear_end: whether the last layer has no activation.
    """

    def __init__(
        self,
        inputs: int,
        sizes: Sequence[int],
        kernel_size: int,
        activation: str = "relu",
        dropout: float = 0.5,
        *,
        linear_end: bool = False,
    ) -> None:
        super().__init__()
        layers = [
            nn.Conv1d(before, size, kernel_size, padding=kernel_size // 2)
            for before, size in zip((inputs, *sizes), sizes, strict=False)
        ]
        self.convolutions = nn.ModuleList(nn.Sequential(layer, nn.BatchNorm1d(layer.out_channels)) for layer in layers)
        self.activation = torch.tanh if activation == "tanh" else F.relu
        self.dropout, self.linear_end = dropout, linear_end
        for number, layer in enumerate(layers):
            last = linear_end and number == len(layers) - 1
            gain = nn.init.calculate_gain("linear" if last else "tanh" if activation == "tanh" else "relu")
            nn.init.xavier_uniform_(layer.weight, gain)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Go through all layers; ``valid`` (batch, positions) marks what is no padding, which is zero for each."""
        x = x.mT
        for number, layer in enumerate(self.convolutions):
            x = layer(x if valid is None else x * valid[:, None])
            if not (self.linear_end and number == len(self.convolutions) - 1):
                x = self.activation(x)
            x = F.dropout(x, self.dropout, self.training)
        return x.mT


def postnet(num_mels: int, size: int, num_convolutions: int, kernel_size: int, dropout: float) -> ConvStack:
    """Make the convolutions that refine all frames (batch, frames, mels); Tacotron 2, section 2.2."""
    sizes = [*[size] * (num_convolutions - 1), num_mels]
    return ConvStack(num_mels, sizes, kernel_size, "tanh", dropout, linear_end=True)


class Prenet(nn.Module):
    """Linear layers with ReLU and dropout through which the decoder reads a frame.

    It is a bottleneck that keeps a decoder from copying the frame before: Y. Wang et al., "Tacotron" (arXiv
    1703.10135), section 3.2. Tacotron 2 goes on to drop units when it speaks, for variety (arXiv 1712.05884, section
    2.2); a model that is told the frames is the same each time.
    """

    def __init__(self, inputs: int, sizes: Sequence[int], dropout: float = 0.5) -> None:
        super().__init__()
        layers = [nn.Linear(before, size, bias=False) for before, size in zip((inputs, *sizes), sizes, strict=False)]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout

    def forward(self, x: Tensor, *, speaking: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Go through all layers, dropping units in training and if the model is ``speaking``."""
        for layer in self.layers:
            x = F.relu(layer(x))
            if self.training or speaking:
                x = dropped(x, self.dropout, generator)
        return x


def dropped(x: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Drop entries of x with a probability, as drawn from ``generator`` or from torch's own."""
    if generator is None:
        return F.dropout(x, probability, training=True)
    kept = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device) >= probability
    return x * kept / (1.0 - probability)
