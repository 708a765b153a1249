"""Permutation-invariant SI-SNR with 2, 3, 5 and 10 sources beside torchmetrics', and with its gradient.

    python benchmarks/pit_speed.py [--threads 1] [--batch 4] [--seconds 4] [--repeats 9]

Both sides in one process, in turns, on the same signals at 8 kHz; medians of the processor time, which what else runs
on the machine disturbs less than the time of the clock. Also prints by how much the values differ.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_noise_ratio

from auriscope.metrics import pit_si_snr


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"batch {options.batch}, {options.seconds:g} s, {options.threads} threads, medians of {options.repeats}, CPU ms"
    )
    print("| sources | | auriscope | torchmetrics | ratio | largest difference (dB) |\n|---|---|---|---|---|---|")
    for num_sources in (2, 3, 5, 10):
        generator = torch.Generator().manual_seed(num_sources)
        shape = (options.batch, num_sources, round(8000 * options.seconds))
        references = torch.randn(shape, generator=generator)
        estimates = references.flip(1) + torch.randn(shape, generator=generator)
        for gradient in (False, True):
            signals = estimates.clone().requires_grad_(gradient)

            def ours(signals: Tensor = signals, references: Tensor = references) -> Tensor:
                return pit_si_snr(signals, references).values.mean(1)

            def peer(signals: Tensor = signals, references: Tensor = references) -> Tensor:
                metric = scale_invariant_signal_noise_ratio
                return permutation_invariant_training(signals, references, metric, eval_func="max")[0]

            difference = (ours() - peer()).abs().max().item()
            times: dict[str, list[float]] = {"ours": [], "peer": []}
            for _ in range(options.repeats):
                for name, side in (("ours", ours), ("peer", peer)):
                    times[name].append(_milliseconds(side, signals))
            own, other = (statistics.median(values) for values in times.values())
            what = "value and gradient" if gradient else "value"
            print(
                f"| {num_sources} | {what} | {own:.2f} | {other:.2f} | {own / other:.2f} | {difference:.1e} |",
                flush=True,
            )


def _milliseconds(side: Callable[[], Tensor], signals: Tensor, calls: int = 5) -> float:
    """Processor time of a call, of several in a row: what came before has left the caches."""
    began = time.process_time()
    for _ in range(calls):
        value = side().mean()
        if signals.requires_grad:
            torch.autograd.grad(value, signals)
    return 1000 * (time.process_time() - began) / calls


if __name__ == "__main__":
    main()
