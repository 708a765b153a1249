"""Gathering of metrics over a test set: means with bootstrap intervals, by example or by cluster. Needs no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """Mean of ``num_values`` values and its interval from ``low`` to ``high``; ``num_excluded`` were NaN.

    The mean is None without values, the interval without at least two values (or, where given, two clusters).
    """

    mean: float | None
    low: float | None
    high: float | None
    num_values: int
    num_excluded: int


def summarize(
    values: Any,
    clusters: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Summary:
    """Give the mean of values with its percentile bootstrap interval; NaN is excluded and counted.

    ``values`` (n,) array or tensor, of any unit. ``clusters`` (n,) names what each value shares with others (a speaker,
    a recording): whole clusters are then resampled, because values of one cluster are not independent, and an interval
    that takes them as such is too narrow. The mean stays that of all values. Infinite values raise ``ValueError``.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; Field and Welsh, "Bootstrapping
    clustered data" (2007), the cluster bootstrap.

    >>> summary = summarize([9.0, 10.0, 11.0, 10.0, float("nan")])
    >>> summary.mean, summary.num_values, summary.num_excluded
    (10.0, 4, 1)
    >>> 9.0 <= summary.low < 10.0 < summary.high <= 11.0
    True
    """
    numbers = _to_array(values)
    if numbers.ndim != 1:
        raise ValueError(f"values of shape {numbers.shape} are not a list of numbers")
    if clusters is not None and len(clusters) != len(numbers):
        raise ValueError(f"{len(clusters)} clusters were given for {len(numbers)} values")
    if np.isinf(numbers).any():
        raise ValueError("an infinite value has no mean")
    kept = ~np.isnan(numbers)
    num_excluded = int((~kept).sum())
    numbers = numbers[kept]
    if len(numbers) == 0:
        return Summary(None, None, None, 0, num_excluded)
    if clusters is None:
        sums, counts = numbers, np.ones(len(numbers))
    else:
        sums, counts = _by_cluster(numbers, [name for name, keep in zip(clusters, kept, strict=True) if keep])
    mean = float(numbers.mean())
    if len(sums) < 2:
        return Summary(mean, None, None, len(numbers), num_excluded)
    interval = bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        vectorized=True,
        confidence_level=confidence,
        n_resamples=num_resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Summary(mean, float(interval.low), float(interval.high), len(numbers), num_excluded)


def summarize_ratio(
    numerators: Any,
    denominators: Any,
    clusters: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Summary:
    """Give the sum of the numerators over that of the denominators with its percentile bootstrap interval.

    So word error is: all edits over all words (n,), pairs being resampled, or whole ``clusters`` (n,), as in
    :func:`summarize`. Denominators are not negative and finite, as are numerators; all zero, there is no ratio.

    >>> summary = summarize_ratio([1, 0, 3], [10, 10, 10])
    >>> round(summary.mean, 3), 0.0 <= summary.low < summary.high <= 0.3
    (0.133, True)
    """
    above, below = _to_array(numerators), _to_array(denominators)
    if above.shape != below.shape or above.ndim != 1:
        raise ValueError(f"numerators of shape {above.shape} do not go with denominators of shape {below.shape}")
    if clusters is not None and len(clusters) != len(above):
        raise ValueError(f"{len(clusters)} clusters were given for {len(above)} values")
    if not (np.isfinite(above).all() and np.isfinite(below).all() and (below >= 0).all()):
        raise ValueError("a ratio needs finite numbers, and denominators of at least zero")
    num_values = len(above)
    if below.sum() == 0:
        return Summary(None, None, None, num_values, 0)
    ratio = float(above.sum() / below.sum())
    if clusters is not None:
        numbers = np.unique(np.asarray(clusters), return_inverse=True)[1]
        above, below = (np.bincount(numbers, values).astype(np.float64) for values in (above, below))
    if len(above) < 2:
        return Summary(ratio, None, None, num_values, 0)
    rng = np.random.default_rng(seed)
    drawn = np.empty(num_resamples)
    for number in range(num_resamples):
        chosen = rng.integers(len(above), size=len(above))
        whole = below[chosen].sum()
        drawn[number] = above[chosen].sum() / whole if whole > 0 else np.nan
    tail = 50.0 * (1.0 - confidence)
    low, high = np.nanpercentile(drawn, [tail, 100.0 - tail])
    return Summary(ratio, float(low), float(high), num_values, 0)


class Accumulator:
    """Gathers per-example values by name, batch by batch, and summarizes them.

    >>> accumulator = Accumulator()
    >>> accumulator.update({"si_snr_db": [10.0, 12.0]}, clusters=["anna", "ben"])
    >>> accumulator.update({"si_snr_db": [14.0]}, clusters=["anna"])
    >>> accumulator.means()
    {'si_snr_db': 12.0}
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Array]] = defaultdict(list)
        self._clusters: list[Any] = []
        self._clustered: bool | None = None

    def update(self, values: Mapping[str, Any], clusters: Iterable[Any] | None = None) -> None:
        """Add a batch: by name, values (batch,) or (batch, sources), arrays or tensors of any device.

        Values of several sources are flattened, each source being a value, and share the example's cluster. Either
        every batch names its clusters (batch,) or none does; every batch has the same names. Raises ``ValueError``.
        """
        arrays = {name: _to_array(value) for name, value in values.items()}
        shapes = {array.shape for array in arrays.values()}
        if len(shapes) != 1 or len(shape := shapes.pop()) not in (1, 2):
            raise ValueError("the values of a batch must all be (batch,), or all be (batch, sources)")
        if self._clustered is not None and (arrays.keys() != self._values.keys()):
            raise ValueError(f"this batch has {', '.join(arrays)} and those before {', '.join(self._values)}")
        if self._clustered is not None and self._clustered != (clusters is not None):
            raise ValueError("either every batch names its clusters or none does")
        if clusters is not None:
            names = list(clusters)
            if len(names) != shape[0]:
                raise ValueError(f"{len(names)} clusters were given for a batch of {shape[0]}")
            self._clusters += [name for name in names for _ in range(shape[1] if len(shape) == 2 else 1)]
        self._clustered = clusters is not None
        for name, array in arrays.items():
            self._values[name].append(array.ravel())

    def values(self) -> dict[str, Array]:
        """Give every value gathered so far, (n,) by name."""
        return {name: np.concatenate(parts) for name, parts in self._values.items()}

    def means(self) -> dict[str, float | None]:
        """Give the mean by name, leaving NaN out; None where nothing is left."""
        kept = {name: values[~np.isnan(values)] for name, values in self.values().items()}
        return {name: float(values.mean()) if len(values) else None for name, values in kept.items()}

    def compute(self, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0) -> dict[str, Summary]:
        """Summarize by name; see :func:`summarize`."""
        clusters = self._clusters if self._clustered else None
        return {
            name: summarize(values, clusters, confidence=confidence, num_resamples=num_resamples, seed=seed)
            for name, values in self.values().items()
        }


def _to_array(values: Any) -> Array:
    # A tensor is told by its methods, not by its type, so that torch stays out of this module.
    if hasattr(values, "detach"):
        values = values.detach().cpu().double()
    return np.asarray(values, dtype=np.float64)


def _by_cluster(numbers: Array, clusters: list[Any]) -> tuple[Array, Array]:
    """Sum and count the values of each cluster."""
    order = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    index = np.array([order[name] for name in clusters])
    return np.bincount(index, weights=numbers).astype(np.float64), np.bincount(index).astype(np.float64)
