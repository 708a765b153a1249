"""Measure CTC: our loss with its gradient beside torch's, and forced alignment of a batch and of a long recording.

Random log-probabilities and texts, single precision, one thread. Ours is a loop over frames in Python beside torch's
compiled one; it is kept to be read and checked against, and training takes torch's.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.recognition.alignment import ctc_align
from auriscope.recognition.ctc import ctc_loss

CLASSES = 30


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of a piece of work, which is first done once without looking at the clock."""
    work()
    times = []
    for _ in range(repeats):
        begin = perf_counter()
        work()
        times.append(perf_counter() - begin)
    return median(times)


def batch(number: int, frames: int, tokens: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random log-probabilities (number, frames, classes), texts (number, tokens), and their full lengths."""
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(number, frames, CLASSES, generator=generator).log_softmax(-1)
    texts = torch.randint(1, CLASSES, (number, tokens), generator=generator)
    return log_probs, texts, torch.full((number,), frames), torch.full((number,), tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the long recording")
    options = parser.parse_args()
    torch.set_num_threads(1)

    log_probs, texts, frames, tokens = batch(8, 400, 150)

    def ours() -> None:
        ctc_loss(log_probs.requires_grad_(), texts, frames, tokens).sum().backward()

    def theirs() -> None:
        own = log_probs.requires_grad_().log_softmax(-1).transpose(0, 1)
        F.ctc_loss(own, texts, frames, tokens, 0, "sum").backward()

    print("8 utterances of 16 s, 400 frames, 150 letters:")
    mine, other = seconds(ours, options.repeats), seconds(theirs, options.repeats)
    print(f"  loss and gradient: ours {1000 * mine:.1f} ms, torch's {1000 * other:.1f} ms, ratio {mine / other:.2f}")
    log_probs = log_probs.detach()
    aligned = seconds(lambda: ctc_align(log_probs, texts), options.repeats)
    print(f"  forced alignment: {1000 * aligned:.1f} ms, {8 * 16 / aligned:.0f} seconds of audio a second")

    # A frame for every 40 ms, and fifteen letters a second.
    long = batch(1, round(options.minutes * 60 * 25), round(options.minutes * 60 * 15))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin = perf_counter()
    ctc_align(long[0], long[1])
    took = perf_counter() - begin
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    full = long[0].shape[1] * (2 * long[1].shape[1] + 1) / 2**20
    print(f"a recording of {options.minutes:g} minutes, {long[0].shape[1]} frames, {long[1].shape[1]} letters:")
    print(
        f"  forced alignment: {took:.1f} s, {more:.0f} MiB more memory; all decisions at once would take {full:.0f} MiB"
    )


if __name__ == "__main__":
    main()
