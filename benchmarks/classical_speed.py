"""FastICA and NMF beside scikit-learn's: the same start, as many iterations, and the error both reach.

    python benchmarks/classical_speed.py [--threads 1] [--repeats 5] [--seconds 10]

Both sides in one process, in turns, both in float32; medians of the processor time (with one thread) or the clock's.
ICA: sources with a Laplacian density at 16 kHz, 20 iterations, the error being the largest cross-talk that is left in
|unmixing x mixing|. NMF: a spectrogram of 513 frequencies, 50 iterations, the error being the divergence.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import NMF, FastICA
from threadpoolctl import threadpool_limits

from auriscope.nn.nmf import DIVERGENCES, factorize
from auriscope.separation.ica import CONTRASTS, ICAConfig, fit_unmixing

ICA_ITERATIONS, NMF_ITERATIONS = 20, 50


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # scikit-learn says that it did not converge, which is what as many iterations of both mean.
    warnings.filterwarnings("ignore")
    kind = "CPU" if options.threads == 1 else "wall"
    print(f"{options.threads} threads, {options.seconds:g} s of sound, medians of {options.repeats}, {kind} ms")
    print("| system | auriscope | scikit-learn | ratio | error, auriscope | error, scikit-learn |")
    print("|---|---|---|---|---|---|")
    with threadpool_limits(options.threads):
        for num_sources in (2, 4):
            for contrast in CONTRASTS:
                sides = _ica_sides(num_sources, contrast, round(16_000 * options.seconds))
                _row(f"FastICA, {num_sources} sources, {contrast}", sides, options.repeats, options.threads)
        for divergence in DIVERGENCES:
            sides = _nmf_sides(divergence, round(62.5 * options.seconds))
            _row(f"NMF, 40 components, {divergence}", sides, options.repeats, options.threads)


def _row(name: str, sides: tuple[Callable[[], float], Callable[[], float]], repeats: int, threads: int) -> None:
    clock = time.process_time if threads == 1 else time.perf_counter
    errors = [side() for side in sides]
    times: list[list[float]] = [[], []]
    for _ in range(repeats):
        for side, row in zip(sides, times, strict=True):
            began = clock()
            side()
            row.append(1000 * (clock() - began))
    own, other = (statistics.median(row) for row in times)
    print(f"| {name} | {own:.1f} | {other:.1f} | {own / other:.2f} | {errors[0]:.4g} | {errors[1]:.4g} |", flush=True)


def _ica_sides(num_sources: int, contrast: str, time: int) -> tuple[Callable[[], float], Callable[[], float]]:
    rng = np.random.default_rng(0)
    sources = rng.laplace(size=(num_sources, time))
    mixing = rng.standard_normal((num_sources, num_sources))
    array = (mixing @ sources).astype(np.float32)
    initial = rng.standard_normal((num_sources, num_sources))
    config = ICAConfig(num_sources, num_sources, contrast=contrast, max_iterations=ICA_ITERATIONS, tolerance=0.0)

    def crosstalk(unmixing: np.ndarray) -> float:
        gains = np.sort(np.abs(unmixing @ mixing), axis=1)
        return float((gains[:, -2] / gains[:, -1]).max())

    def ours() -> float:
        found = fit_unmixing(torch.from_numpy(array).unsqueeze(0), config, initial=torch.from_numpy(initial))
        return crosstalk(found.unmixing[0].numpy())

    def peer() -> float:
        model = FastICA(
            num_sources, fun=contrast, w_init=initial, whiten_solver="eigh", tol=1e-30, max_iter=ICA_ITERATIONS
        )
        return crosstalk(model.fit(array.T).components_)

    return ours, peer


def _nmf_sides(divergence: str, frames: int) -> tuple[Callable[[], float], Callable[[], float]]:
    rng = np.random.default_rng(0)
    shapes = ((513, frames), (513, 40), (40, frames))
    noise, dictionary, activations = (rng.gamma(1.0, size=shape).astype(np.float32) + 0.01 for shape in shapes)
    matrix = noise * (dictionary[::-1].copy() @ activations[::-1].copy()) / 40
    loss = "frobenius" if divergence == "euclidean" else divergence

    def ours() -> float:
        start = {"dictionary": torch.from_numpy(dictionary)[None], "activations": torch.from_numpy(activations)[None]}
        found = factorize(
            torch.from_numpy(matrix).unsqueeze(0), divergence=divergence, num_iterations=NMF_ITERATIONS, **start
        )
        return found.divergence.item()

    def peer() -> float:
        model = NMF(40, solver="mu", beta_loss=loss, init="custom", max_iter=NMF_ITERATIONS, tol=0)
        model.fit_transform(matrix, W=dictionary.copy(), H=activations.copy())
        return float(model.reconstruction_err_**2 / 2)

    return ours, peer


if __name__ == "__main__":
    main()
