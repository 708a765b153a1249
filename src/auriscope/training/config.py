"""The settings of a training run; no torch here, so that a recipe can be checked quickly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from auriscope.errors import RecipeError

_POSITIVE = (
    "max_steps",
    "max_minutes",
    "max_minutes_per_call",
    "learning_rate",
    "decay_steps",
    "plateau_patience",
    "gradient_clip_norm",
    "max_nonfinite_in_a_row",
    "accumulate_batches",
    "num_processes",
    "num_hosts",
    "log_every_steps",
    "validate_every_steps",
    "checkpoint_every_steps",
    "checkpoint_every_minutes",
)


@dataclass(frozen=True)
class TrainingConfig:
    """How a run optimizes, how long, and how often it looks at itself.

    A step is one update of the weights; it consumes ``accumulate_batches`` batches in each of the processes. The
    learning rate at a step is ``learning_rate`` times the warm-up (linear over ``warmup_steps``) times the schedule:

    - ``constant``;
    - ``cosine``: from 1 down to ``final_fraction`` at ``max_steps``;
    - ``exponential``: times ``decay_factor`` every ``decay_steps`` steps, smoothly;
    - ``plateau``: times ``decay_factor`` after ``plateau_patience`` validations without a new best.

    All of them depend on steps and validations only, never on the clock, so that a resumed run repeats them exactly;
    a run that is bounded by minutes therefore takes ``plateau``, ``exponential`` or ``constant``.

    At every validation the weights are kept that are best by the task's metric; with ``choose: latest`` the newest,
    where the metric tells little of what is wanted.

    ``max_minutes`` bounds the run's time over all its continuations, ``max_minutes_per_call`` that of one call; both
    include validation. Values that make no sense raise ``RecipeError``.
    """

    max_steps: int = 100_000
    max_minutes: float | None = None
    max_minutes_per_call: float | None = None

    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "exponential", "plateau"] = "constant"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    decay_factor: float = 0.5
    decay_steps: int = 10_000
    plateau_patience: int = 3

    gradient_clip_norm: float | None = 5.0
    max_nonfinite_in_a_row: int = 20
    accumulate_batches: int = 1
    average_decay: float | None = None
    """Decay of the moving average of the weights, such as 0.999; validation and the best weights use it."""

    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Of the arithmetic; weights are float32. A CPU that would have to emulate bfloat16 trains in float32."""
    compile: bool = False
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    num_processes: int = 1
    num_hosts: int = 1
    num_workers: int = 0
    """Processes that prepare batches in the background; they change no result."""
    seed: int = 0

    log_every_steps: int = 50
    validate_every_steps: int = 1000
    choose: Literal["best", "latest"] = "best"
    checkpoint_every_steps: int | None = None
    checkpoint_every_minutes: float | None = 5.0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise RecipeError(f"training.{name} must be positive, not {value}")
        for name in ("warmup_steps", "num_workers", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"training.{name} must not be negative, but is {getattr(self, name)}")
        if not 0 <= self.final_fraction <= 1:
            raise RecipeError(f"training.final_fraction must lie in [0, 1], not {self.final_fraction}")
        if not 0 < self.decay_factor <= 1:
            raise RecipeError(f"training.decay_factor must lie in (0, 1], not {self.decay_factor}")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise RecipeError(f"training.average_decay must lie in (0, 1), not {self.average_decay}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(f"training.betas must lie in [0, 1), not {self.betas}")
