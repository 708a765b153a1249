"""What a task is to the training loop: a model, its losses, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

Batch = Mapping[str, Any]


@runtime_checkable
class Task(Protocol):
    """The business of one training run; the loop (:mod:`auriscope.training.loop`) does everything else.

    A task is an ``nn.Module`` that owns the model and the losses::

        losses = task(batch, phase)      # a dict with "loss", a scalar
        values = task.evaluate(batch)    # per-example metrics, each (batch,)

    One whose losses leave some parameters of a phase without gradients says so by ``leaves_parameters_out = True``.
    """

    model: nn.Module
    higher_is_better: bool
    selection_metric: str

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Phase name to the parameters that phase optimizes: ``{"main": ...}``, or discriminator and generator."""
        ...

    def __call__(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """Losses of a batch; ``"loss"`` is what the phase minimizes, the others are logged."""
        ...

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Metrics per example, each of shape (batch,), by the name under which they are reported."""
        ...
