"""How fast mixtures are made on one core: seconds of mixture per second, clean and with rooms and noise.

    AURISCOPE_CORPORA=... python benchmarks/mixing_speed.py [--corpora synthetic]

Decoding the corpora and simulating the rooms happen once, before the clock starts.
"""

from __future__ import annotations

import argparse
import time

import torch

from auriscope.data import DynamicMixer, MixingConfig
from auriscope.data.mixing import DEFAULT_CORPORA

CONDITIONS = {
    "clean": {},
    "noisy": {"noise_probability": 1.0},
    "simulated rooms": {"room_probability": 1.0, "measured_room_share": 0.0},
    "measured rooms": {"room_probability": 1.0, "measured_room_share": 1.0},
    "rooms and noise": {"room_probability": 1.0, "noise_probability": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", nargs="+", default=DEFAULT_CORPORA)
    parser.add_argument("--num-batches", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| mixtures of | mixture seconds per second, one core |\n|---|---|")
    for num_sources in (2, 3):
        for name, options in CONDITIONS.items():
            config = MixingConfig(corpora=tuple(arguments.corpora), num_sources=num_sources, **options)
            mixer = DynamicMixer(config)
            mixer.batch(arguments.num_batches)
            start = time.perf_counter()
            for index in range(arguments.num_batches):
                mixer.batch(index)
            seconds = time.perf_counter() - start
            made_seconds = arguments.num_batches * config.batch_size * config.segment_seconds
            print(f"| {num_sources} talkers, {name} | {made_seconds / seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
