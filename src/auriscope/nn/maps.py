"""What an interpreter asks of a classifier: logits of one kind of input, and the hidden maps behind them.

For sound and pictures alike the input is ``x`` (batch, channels, height, width): an image with values in [0, 1], or
the linear magnitude of a recording's STFT as (batch, 1, frames, bins).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Classifies(Protocol):
    """A network that tells classes of ``x`` (batch, channels, height, width)."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        ...

    def classify_maps(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of ``x``."""
        ...


@runtime_checkable
class HiddenMaps(Classifies, Protocol):
    """A classifier that shows the maps of its stages, earliest first."""

    @property
    def hidden_channels(self) -> tuple[int, ...]:
        """How many channels the map of each stage has, earliest first."""
        ...

    def hidden(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps (batch, channels, height, width) of the stages, each smaller than the one before or as large."""
        ...

    def hidden_and_logits(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The same maps and the logits (batch, classes) that were computed from them, in one pass."""
        ...
