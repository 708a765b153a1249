"""What happens to the weights: optimizers, the learning rate's schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from auriscope.training.config import TrainingConfig


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> Optimizer:
    """The optimizer of one phase."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    kind: type[Adam] = {"adam": Adam, "adamw": AdamW}[config.optimizer]
    return kind(trainable, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """What an optimizer remembers of each parameter, by the parameter's index as a string."""
    return {str(index): dict(values) for index, values in optimizer.state_dict()["state"].items()}


def set_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Give an optimizer its memory back; its hyperparameters stay those of the current configuration."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict(
        {"state": {int(index): values for index, values in state.items()}, "param_groups": groups}
    )


class Schedule:
    """The learning rate as a function of the step and of the validations so far (see ``TrainingConfig``)."""

    def __init__(self, config: TrainingConfig, higher_is_better: bool) -> None:
        self.config = config
        self.sign = 1.0 if higher_is_better else -1.0
        self.best = -math.inf
        self.validations_without_best = 0
        self.reductions = 0

    def learning_rate(self, step: int) -> float:
        """The learning rate of the update that follows ``step`` finished ones."""
        config = self.config
        warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        factor = 1.0
        if config.schedule == "cosine":
            progress = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
            cosine = (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
            factor = config.final_fraction + (1 - config.final_fraction) * cosine
        elif config.schedule == "exponential":
            factor = config.decay_factor ** (step / config.decay_steps)
        elif config.schedule == "plateau":
            factor = config.decay_factor**self.reductions
        return config.learning_rate * warmup * factor

    def observe(self, metric: float) -> None:
        """Take note of a validation; only the plateau schedule uses it. NaN counts as no improvement."""
        if self.sign * metric > self.best:
            self.best = self.sign * metric
            self.validations_without_best = 0
            return
        self.validations_without_best += 1
        if self.validations_without_best >= self.config.plateau_patience:
            self.reductions += 1
            self.validations_without_best = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {
            "best": self.best,
            "validations_without_best": self.validations_without_best,
            "reductions": self.reductions,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self.best = float(state["best"])
        self.validations_without_best = int(state["validations_without_best"])
        self.reductions = int(state["reductions"])


class AverageWeights:
    """The exponential moving average of a module's weights.

    ``average <- d * average + (1 - d) * weights`` with ``d = min(decay, (1 + step) / (10 + step))``: early in a run the
    average follows quickly, so that the random initial weights are soon forgotten (as TensorFlow's
    ``ExponentialMovingAverage`` does with ``num_updates``). Buffers and integer tensors are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self._averaged = {
            name for name, value in module.named_parameters(remove_duplicate=False) if value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the current weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.module.state_dict().items():
            if name in self._averaged:
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module has the averaged weights."""
        current = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.average)
        try:
            yield
        finally:
            self.module.load_state_dict(current)

    def set_state(self, average: Mapping[str, Tensor]) -> None:
        """Continue from an ``average`` read from a checkpoint."""
        for name, value in self.average.items():
            value.copy_(average[name])
