"""From an embedding to logits: a linear layer, or cosines with a vector for each class, as SpeechBrain has them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.nn.masks import choice


@dataclass(frozen=True)
class HeadConfig:
    """What stands between an embedding and the logits.

    ``kind`` is "linear", or "cosine": ``num_blocks`` batch norms, each with a linear layer of ``block_channels`` behind
    it, and the cosines of what they give with a vector for each class, times ``scale``.
    """

    kind: str = "linear"
    num_blocks: int = 0
    block_channels: int = 192
    scale: float = 30.0

    def __post_init__(self) -> None:
        choice(self.kind, ("linear", "cosine"), "head.kind")
        if self.num_blocks < 0 or self.block_channels < 1 or not self.scale > 0.0:
            raise ValueError("head: num_blocks must be at least 0, block_channels at least 1, and scale above 0")
        if self.num_blocks and self.kind == "linear":
            raise ValueError("head.num_blocks: a linear head has none")


def make_head(config: HeadConfig, num_inputs: int, num_classes: int) -> nn.Module:
    """Make a head of embeddings (batch, num_inputs)."""
    return nn.Linear(num_inputs, num_classes) if config.kind == "linear" else Cosines(config, num_inputs, num_classes)


class Cosines(nn.Module):
    """Embeddings (batch, num_inputs) to logits (batch, num_classes): scaled cosines with a vector for each class."""

    def __init__(self, config: HeadConfig, num_inputs: int, num_classes: int) -> None:
        super().__init__()
        self.scale = config.scale
        self.blocks = nn.ModuleList()
        for _ in range(config.num_blocks):
            self.blocks.append(nn.BatchNorm1d(num_inputs))
            self.blocks.append(nn.Linear(num_inputs, config.block_channels))
            num_inputs = config.block_channels
        self.classes = nn.Linear(num_inputs, num_classes, bias=False)
        nn.init.xavier_uniform_(self.classes.weight)

    def forward(self, embedding: Tensor) -> Tensor:
        """Logits (batch, num_classes), at most ``scale`` and at least its negative."""
        for block in self.blocks:
            embedding = block(embedding)
        return self.scale * F.linear(F.normalize(embedding, dim=-1), F.normalize(self.classes.weight, dim=-1))
