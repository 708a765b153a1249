"""The residual heads that bring what two encoders hear and read into one space."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualHead(nn.Module):
    """A linear map, a second one behind GELU beside it, and a layer norm: (batch, in_dim) to (batch, dim).

    B. Elizalde et al., "CLAP: Learning Audio Concepts From Natural Language Supervision" (arXiv 2206.04769), section
    2; the form is that of the published models, whose linear maps have no bias. ``dropout`` is of the second map.
    """

    def __init__(self, in_dim: int, dim: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.first = nn.Linear(in_dim, dim, bias=False)
        self.second = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_dim) to (batch, dim)."""
        first = self.first(x)
        second = F.dropout(self.second(F.gelu(first)), self.dropout, self.training)
        mapped: Tensor = self.norm(first + second)
        return mapped
