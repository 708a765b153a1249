"""How fast the shipped separators are: seconds of audio per second of computing, one stream, through `separate`'s code.

    python benchmarks/separation_speed.py [--seconds 60] [--repeats 5] [MODEL …]

Prints a row per model: the median over the repeats, and the slowest and fastest. One recording at a time, as a person
would separate it, in this process with as many threads as torch takes by itself (two on two cores).
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from auriscope.data.synthetic import voice
from auriscope.pretrained import list_shipped, load
from auriscope.separation.long import LongConfig, separate_waveform


def main() -> None:
    """Measure the models of the command line, or all that ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    models = arguments.models or [model.address for model in list_shipped() if model.room == "separation"]
    print(f"{torch.get_num_threads()} threads, {arguments.seconds:g} s of audio, {arguments.repeats} repeats")
    print("| model | parameters | seconds of audio per second | slowest | fastest |")
    print("|---|---|---|---|---|")
    for address in models:
        model = load(address)
        rate = int(model.config.sample_rate)
        voices = [voice(n, 0, seconds=arguments.seconds, sample_rate=rate) for n in range(model.config.num_sources)]
        recording = 0.3 * np.sum(voices, axis=0)
        # The first run allocates memory and warms the caches.
        separate_waveform(recording[: 10 * rate], model, sample_rate=rate, config=LongConfig())
        speeds = []
        for _ in range(arguments.repeats):
            began = time.perf_counter()
            separate_waveform(recording, model, sample_rate=rate, config=LongConfig())
            speeds.append(arguments.seconds / (time.perf_counter() - began))
        median = statistics.median(speeds)
        print(f"| {address} | {model.num_parameters:,} | {median:.1f} | {min(speeds):.1f} | {max(speeds):.1f} |")


if __name__ == "__main__":
    main()
