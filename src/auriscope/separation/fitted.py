"""What the fitted systems share: closed-form and iterative models that no gradient trains."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.pretrained.model import Model


class FittedSeparator(Model):
    """A separator with ``fit`` in the place of training; what it learns are buffers, saved and loaded as weights are.

    Before ``fit`` its buffers are zeros, and it refuses to separate.
    """

    fitted: ClassVar[bool] = True

    def fit(self, *signals: Tensor, lengths: Tensor | None = None) -> Self:
        """Learn from the signals that the system takes, and return the model."""
        raise NotImplementedError(f"{type(self).__name__} has no fit")

    def separate(self, *signals: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate as ``forward`` does, without a graph for gradients."""
        with torch.no_grad():
            estimates: Tensor = self(*signals, lengths=lengths)
        return estimates

    def _require_fit(self, learned: Tensor) -> None:
        if not learned.any():
            raise AuriscopeError(f"{self.name} has not been fitted: call fit, or load a fitted model")


def join_in_time(signal: Tensor, lengths: Tensor | None) -> Tensor:
    """Lay the valid samples of a batch (batch, ..., time) one after the other, (..., total)."""
    if lengths is None:
        return signal.movedim(0, -2).flatten(-2)
    pairs: list[Any] = list(zip(signal, lengths.tolist(), strict=True))
    return torch.cat([item[..., :length] for item, length in pairs], dim=-1)
