"""Metrics per example over a set of batches, their means, and how far the means can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auriscope.training.task import Batch, Task


@dataclass(frozen=True)
class MetricSummary:
    """Mean of a metric over the examples where it is defined, and a bootstrap confidence interval of that mean."""

    mean: float | None
    low: float | None
    high: float | None
    num_examples: int


@dataclass
class EvaluationTable:
    """One row per example: its ``id`` and its metrics (NaN where a metric is not defined)."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def metrics(self) -> list[str]:
        """Names of the metrics, in the order in which they came."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [name for name in names if name != "id"]

    def values(self, metric: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The finite values of a metric, (examples,) float64."""
        values = np.array([row.get(metric, math.nan) for row in self.rows], dtype=np.float64)
        return values[np.isfinite(values)]

    def means(self) -> dict[str, float]:
        """Mean of every metric over the examples where it is finite; NaN where it never is."""
        values = {metric: self.values(metric) for metric in self.metrics()}
        return {metric: float(v.mean()) if v.size else math.nan for metric, v in values.items()}

    def summary(self, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0) -> dict[str, MetricSummary]:
        """Mean and bootstrap interval (percentile, examples resampled) of every metric.

        With fewer than two examples there is no interval, without any there is no mean: these are None.
        """
        return {metric: _summarize(self.values(metric), confidence, num_resamples, seed) for metric in self.metrics()}


@torch.no_grad()
def evaluate(task: Task | Callable[[Batch], Mapping[str, Tensor]], batches: Iterable[Batch]) -> EvaluationTable:
    """Evaluate every example of some batches.

    ``task`` is a task, or a function from a batch to metrics of shape (batch,). A module is evaluated in evaluation
    mode and left in the mode it was in. The examples' names are the batch's ``id`` (a list of strings), where it has
    one, else their number.
    """
    measure: Callable[[Batch], Mapping[str, Tensor]] = task.evaluate if hasattr(task, "evaluate") else task
    was_training = isinstance(task, torch.nn.Module) and task.training
    table = EvaluationTable()
    try:
        if isinstance(task, torch.nn.Module):
            task.eval()
        for batch in batches:
            metrics = {name: values.detach().float().cpu().tolist() for name, values in measure(batch).items()}
            for index in range(max(map(len, metrics.values()), default=0)):
                name = batch["id"][index] if "id" in batch else str(len(table.rows))
                table.rows.append({"id": name} | {metric: values[index] for metric, values in metrics.items()})
    finally:
        if was_training and isinstance(task, torch.nn.Module):
            task.train()
    return table


def _summarize(
    values: np.ndarray[Any, np.dtype[np.float64]], confidence: float, num_resamples: int, seed: int
) -> MetricSummary:
    if not values.size:
        return MetricSummary(None, None, None, 0)
    mean = float(values.mean())
    if values.size < 2:
        return MetricSummary(mean, None, None, 1)
    if np.ptp(values) == 0:
        return MetricSummary(mean, mean, mean, int(values.size))
    from scipy.stats import bootstrap

    interval = bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=num_resamples, method="percentile", rng=seed
    ).confidence_interval
    return MetricSummary(mean, float(interval.low), float(interval.high), int(values.size))
