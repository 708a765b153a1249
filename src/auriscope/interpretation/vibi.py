"""VIBI: the few chunks of an input from which a second network tells what the classifier decided.

S. Bang, P. Xie, H. Lee, W. Wu and E. Xing, "Explaining a black-box by using a deep variational information bottleneck
approach" (arXiv 1902.06918). An explainer gives each chunk of the input a probability; k chunks are
drawn by it in such a way that gradients pass (Gumbel-softmax), and an approximator tells the classifier's decision from
these alone. A bottleneck holds the draw near one that knows nothing of the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.interpretation.interpreter import InterpreterConfig, Seen, TrainedInterpreter


@dataclass(frozen=True)
class VIBIConfig(InterpreterConfig):
    """The configuration of VIBI; networks and chunks are by default the authors' for pictures of digits.

    Chunks have ``chunk_height`` x ``chunk_width`` points, and ``chosen_share`` of them, at least one, are the
    interpretation: the paper's k, 10 of the 49 chunks in a picture of 28 x 28. ``temperature`` is that of the draws
    (the paper's τ), and ``compression_weight`` the bottleneck's (its β).
    """

    chunk_height: int = 4
    chunk_width: int = 4
    chosen_share: float = 0.2
    temperature: float = 0.5
    compression_weight: float = 0.01
    explainer_channels: tuple[int, int] = (8, 16)
    approximator_channels: tuple[int, int] = (32, 64)

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = *self.explainer_channels, *self.approximator_channels
        if min(self.chunk_height, self.chunk_width, *channels) < 1:
            raise ValueError("chunk_height, chunk_width and all channels must be at least 1")
        if not 0.0 < self.chosen_share <= 1.0 or self.temperature <= 0.0 or self.compression_weight < 0.0:
            raise ValueError("chosen_share must lie in (0, 1], temperature above 0, compression_weight not below 0")


class Explainer(nn.Module):
    """Inputs (batch, channels, height, width) to log-probabilities of their chunks (batch, rows, columns).

    As for the paper's pictures of digits: two convolutions of 5 x 5, and maxima that leave one value for each chunk.
    """

    def __init__(self, in_channels: int, channels: tuple[int, int], chunk: tuple[int, int]) -> None:
        super().__init__()
        # The first maximum halves what can be halved; the second leaves one value of every chunk.
        self.first_pool = tuple(2 if size % 2 == 0 else 1 for size in chunk)
        self.second_pool = tuple(size // pool for size, pool in zip(chunk, self.first_pool, strict=True))
        self.first = nn.Conv2d(in_channels, channels[0], 5, padding=2)
        self.second = nn.Conv2d(channels[0], channels[1], 5, padding=2)
        self.score = nn.Conv2d(channels[1], 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities (batch, rows, columns) of the chunks, which sum to one; the size is whole chunks."""
        x = F.max_pool2d(F.relu(self.first(features)), self.first_pool)
        x = F.max_pool2d(F.relu(self.second(x)), self.second_pool)
        scores: Tensor = self.score(x)[:, 0]
        return scores.flatten(1).log_softmax(1).reshape(scores.shape)


class Approximator(nn.Module):
    """Inputs (batch, channels, height, width) of any size to logits (batch, classes), beside the classifier."""

    def __init__(self, in_channels: int, channels: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(channels[0], channels[1], 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            # A picture of 28 x 28 comes as 7 x 7, and stays as it is; a recording of any length comes to as many.
            nn.AdaptiveAvgPool2d(7),
        )
        self.classify = nn.Linear(49 * channels[1], num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        logits: Tensor = self.classify(self.maps(features).flatten(1))
        return logits


def draw_chunks(log_probabilities: Tensor, num_chosen: int, temperature: float) -> Tensor:
    """Draw ``num_chosen`` times a chunk, softly, and take the highest of the draws: (batch, chunks) from 0 to 1.

    ``log_probabilities`` (batch, chunks) are logarithms, and gradients pass to them: a draw is the softmax of their sum
    with Gumbel noise over the temperature.
    """
    draws = F.gumbel_softmax(log_probabilities[:, None].expand(-1, num_chosen, -1), temperature)
    return draws.amax(1)


def best_chunks(log_probabilities: Tensor, num_chosen: int) -> Tensor:
    """Mark the ``num_chosen`` most probable chunks: (batch, chunks), 1 or 0."""
    chosen = log_probabilities.topk(num_chosen, dim=1).indices
    return torch.zeros_like(log_probabilities).scatter(1, chosen, 1.0)


class VIBI(TrainedInterpreter, name="interpretation/vibi"):
    """What a classifier sees to a mask (batch, 1, height, width) of 0 and 1 that keeps the chunks of its decision.

    The mask is of the decision: it is the same whichever label is given.
    """

    method = "vibi"
    Config = VIBIConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "hidden_channels": (4, 6),
        "explainer_channels": (4, 6),
        "approximator_channels": (4, 6),
    }
    Published: ClassVar[dict[str, float]] = {
        "input fidelity on MNIST (%)": 73.90,
        "faithfulness on MNIST": 0.369,
        "FID on MNIST": 0.710,
    }

    def __init__(self, config: VIBIConfig) -> None:
        super().__init__(config)
        self.chunk = config.chunk_height, config.chunk_width
        self.explainer = Explainer(config.in_channels, config.explainer_channels, self.chunk)
        self.approximator = Approximator(config.in_channels, config.approximator_channels, config.num_classes)

    def chunks(self, x: Tensor) -> Tensor:
        """Log-probabilities (batch, rows, columns) of the chunks of ``x``; those at its ends may reach over them."""
        height, width = (-size % each for size, each in zip(x.shape[2:], self.chunk, strict=True))
        log_probabilities: Tensor = self.explainer(F.pad(self.readable(x), (0, width, 0, height)))
        return log_probabilities

    def num_chosen(self, num_chunks: int) -> int:
        """How many of so many chunks are the interpretation."""
        return max(1, round(float(self.config.chosen_share) * num_chunks))

    def spread(self, chosen: Tensor, x: Tensor) -> Tensor:
        """Bring what each chunk is multiplied by, (batch, rows, columns), to a mask over ``x``."""
        height, width = self.chunk
        mask = chosen.repeat_interleave(height, 1).repeat_interleave(width, 2)
        return mask[:, None, : x.shape[2], : x.shape[3]]

    def forward(self, x: Tensor, maps: tuple[Tensor, ...], label: Tensor) -> Tensor:  # noqa: ARG002
        """Masks (batch, 1, height, width) of 0 and 1, whose chunks are the likeliest; the maps are not looked at."""
        chunks = self.chunks(x)
        flat = chunks.flatten(1)
        return self.spread(best_chunks(flat, self.num_chosen(flat.shape[1])).reshape(chunks.shape), x)

    def losses(self, seen: Seen, index: int) -> dict[str, Tensor]:  # noqa: ARG002
        """How badly the drawn chunks tell the decision ("information", in bits), and how far they are from any.

        "compression" is k times the divergence of the chunks' probabilities from equal ones, in nats.
        """
        chunks = self.chunks(seen.x)
        flat = chunks.flatten(1)
        number = self.num_chosen(flat.shape[1])
        drawn = draw_chunks(flat, number, self.config.temperature).reshape(chunks.shape)
        logits = self.approximator(self.readable(self.spread(drawn, seen.x) * seen.x))
        divergence = math.log(flat.shape[1]) + (flat.exp() * flat).sum(1).mean()
        losses = {
            "information": F.cross_entropy(logits, seen.label) / math.log(2.0),
            "compression": number * divergence,
            "agreement": (logits.argmax(1) == seen.label).float().mean(),
        }
        losses["loss"] = losses["information"] + self.config.compression_weight * losses["compression"]
        return losses
