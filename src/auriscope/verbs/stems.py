"""Figures of stems as MUSDB18 is reported: per stem, the median over the songs of the median over 1 s chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.prepared_set import PreparedSet
from auriscope.errors import AuriscopeError
from auriscope.metrics.stems import median_image_sdr
from auriscope.separation.stems import separate_stems

Interval = tuple[float | None, float | None, float | None]
_NUM_RESAMPLES = 2000


def stem_figures(separator: Any, items: PreparedSet, on_progress: Callable[[float], None]) -> dict[str, Interval]:
    """Separate every recording of a set whose sources have their places, and measure every stem.

    Gives ``sdr_db_NAME`` for every stem and ``sdr_db``, the mean of these, each with the ends of its 95 % bootstrap
    interval, songs resampled. A song shorter than a second has no chunk and counts for nothing.
    """
    config = separator.config
    if len(items.source_names) != int(config.num_sources):
        raise AuriscopeError(
            f"{items.name} has {len(items.source_names)} stems and the model separates {config.num_sources}; "
            "choose another"
        )
    rate, rows = int(config.sample_rate), []
    for first in range(0, len(items), items.num_channels):
        channels = [items[first + channel] for channel in range(items.num_channels)]
        mixture = torch.stack([item.mixture for item in channels])
        if mixture.shape[-1] >= rate:
            references = torch.stack([item.sources for item in channels], dim=1)
            estimates = separate_stems(mixture, separator)
            rows.append(median_image_sdr(estimates[None], references[None], rate)[0].numpy())
        on_progress((first + items.num_channels) / len(items))
    values = np.stack(rows) if rows else np.full((0, len(items.source_names)), np.nan)
    figures = {"sdr_db": _interval(values, lambda chosen: float(np.mean(_medians(chosen))))}
    for place, name in enumerate(items.source_names):
        figures[f"sdr_db_{name}"] = _interval(values[:, place : place + 1], lambda chosen: float(_medians(chosen)[0]))
    return figures


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the songs (songs, stems) where it is defined, (stems,)."""
    kept = [column[~np.isnan(column)] for column in values.T]
    return np.array([np.median(column) if len(column) else np.nan for column in kept])


def _interval(values: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float]) -> Interval:
    """A statistic of (songs, stems) with the ends of its percentile bootstrap interval; None where not defined."""
    value = statistic(values)
    if np.isnan(value):
        return None, None, None
    if len(values) < 2:
        return value, None, None
    rng = np.random.default_rng(0)
    drawn = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(_NUM_RESAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return value, float(low), float(high)
