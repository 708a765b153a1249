"""ICA of a generated multivariate financial series: four hidden factors of six price series, found from the prices.

    python benchmarks/ica_series.py [--out docs/curves/ica-series.png]

The factors' daily returns are independent, with volatility that clusters (GARCH(1,1) with Student-t innovations); six
logarithmic prices are random walks whose returns are weighted sums of them. Everything is drawn here from a seed: no
market data. Prints how well every factor is recovered, and draws prices, true and recovered factors.

Then one series alone: pulses at irregular times on a slow wave, found in their sum by EEMD-ICA (needs the extra
``eemd``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from auriscope.separation import ICA, ICAConfig
from auriscope.separation.eemd import EEMDICAConfig, separate_series


def garch(num_days: int, rng: np.random.Generator) -> np.ndarray:
    """Draw returns (days,): variance_t = 0.02 + 0.1 return_{t-1}^2 + 0.88 variance_{t-1}, Student-t with 5 degrees."""
    returns, variance = np.zeros(num_days), 1.0
    for day in range(1, num_days):
        variance = 0.02 + 0.1 * returns[day - 1] ** 2 + 0.88 * variance
        returns[day] = np.sqrt(variance * 3 / 5) * rng.standard_t(5)
    return returns


def main() -> None:
    """Generate, unmix, compare and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--days", type=int, default=2500)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    factors = np.stack([garch(options.days, rng) for _ in range(4)])
    returns = rng.standard_normal((6, 4)) @ factors
    # Prices are not stationary, their differences are: ICA takes returns.
    array = torch.from_numpy(returns).float().unsqueeze(0)
    model = ICA(ICAConfig(num_channels=6, num_sources=4)).fit(array)
    # Not separate, which leaves the mean out: a mean return is the drift of a price.
    found = model.unmixing.numpy() @ returns
    correlation = np.corrcoef(factors, found)[:4, 4:]
    rows, columns = linear_sum_assignment(-np.abs(correlation))
    print(f"{options.days} days, 6 prices, 4 factors: |correlation| of each with what was found for it")
    for row, column in zip(rows, columns, strict=True):
        print(f"| factor {row + 1} | {abs(correlation[row, column]):.4f} |")
    one_series()
    if options.out:
        signs = np.sign(correlation[rows, columns])
        _draw(returns, factors, signs[:, None] * found[columns], options.out)


def one_series(num_values: int = 2000) -> None:
    """Add pulses and a wave, and print how close EEMD-ICA's components and the modes alone come to them."""
    rng = np.random.default_rng(0)
    pulses = np.zeros(num_values)
    for start in np.cumsum(rng.integers(60, 110, num_values // 110)):
        pulses[start : start + 20] = 2 * np.sin(np.linspace(0, 2 * np.pi, 20))
    sources = np.stack([pulses, np.sin(2 * np.pi * 12 * np.arange(num_values) / num_values)])
    found = separate_series(sources.sum(0), EEMDICAConfig(num_sources=3, noise_level=0.5))
    print(f"one series of {num_values} values: |correlation| with the closest component, and with the closest mode")
    closest = [np.abs(np.corrcoef(sources, rows)[:2, 2:]).max(1) for rows in (found.components, found.modes)]
    for number, name in enumerate(("pulses", "wave")):
        print(f"| {name} | {closest[0][number]:.3f} | {closest[1][number]:.3f} |")


def _draw(returns: np.ndarray, factors: np.ndarray, found: np.ndarray, out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots(5, 1, sharex=True, height_ratios=(2, 1, 1, 1, 1))
    axes[0].plot(returns.cumsum(1).T, linewidth=0.8)
    axes[0].set_ylabel("log prices")
    for number, axis in enumerate(axes[1:]):
        for walk, style in ((factors[number], "-"), (found[number], "--")):
            axis.plot((walk / walk.std()).cumsum(), style, linewidth=1.0)
        axis.set_ylabel(f"factor {number + 1}")
    axes[1].legend(["true", "found"], loc="upper left", fontsize="small")
    axes[-1].set_xlabel("day")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main()
