"""How fast training data are made on one core: seconds of mixtures, and of augmented speech, per second.

    AURISCOPE_CORPORA=... python benchmarks/mixing_speed.py [--corpora synthetic]

Decoding the corpora and simulating the rooms happen once, before the clock starts.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from auriscope.data import DynamicMixer, MixingConfig
from auriscope.data.augmentation import AugmentationConfig, Augmenter
from auriscope.data.mixing import DEFAULT_CORPORA

CONDITIONS = {
    "clean": {},
    "noisy": {"noise_probability": 1.0},
    "simulated rooms": {"room_probability": 1.0, "measured_room_share": 0.0},
    "measured rooms": {"room_probability": 1.0, "measured_room_share": 1.0},
    "rooms and noise": {"room_probability": 1.0, "noise_probability": 1.0},
}
RATE = 16_000
MEASURED = {"room_probability": 1.0, "measured_room_share": 1.0}
AUGMENTATIONS = {
    "speed": {"speed_factors": (0.9, 1.1)},
    "measured rooms": MEASURED,
    "noise": {"noise_probability": 1.0},
    "telephone": {"band_limit_probability": 1.0},
    "MP3": {"codec_probability": 1.0, "codecs": ("mp3",)},
    "Opus": {"codec_probability": 1.0, "codecs": ("opus",)},
    "all: speed; rooms 0.5, noise 0.6, telephone 0.1, codec 0.3 of utterances": {
        "speed_factors": (0.9, 1.0, 1.1),
        "room_probability": 0.5,
        "measured_room_share": 1.0,
        "noise_probability": 0.6,
        "band_limit_probability": 0.1,
        "codec_probability": 0.3,
        "level_db": (-10.0, 10.0),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", nargs="+", default=DEFAULT_CORPORA)
    parser.add_argument("--num-batches", type=int, default=20)
    parser.add_argument("--num-utterances", type=int, default=60)
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
    augmentation(arguments.num_utterances)


def augmentation(num_utterances: int) -> None:
    """Print how fast utterances of ten seconds are augmented, by one thing at a time and by a usual mixture of all."""
    rng = np.random.default_rng(0)
    waveform = (0.05 * rng.standard_normal(10 * RATE)).astype(np.float32)
    print("\n| augmentation | seconds of speech per second of processor |\n|---|---|")
    for name, settings in AUGMENTATIONS.items():
        augmenter = Augmenter(AugmentationConfig(**settings), "train", RATE)
        draws = [augmenter.draw(rng, len(waveform)) for _ in range(num_utterances)]
        augmenter.apply(waveform, draws[0])
        start = time.process_time()
        made = sum(len(augmenter.apply(waveform, drawn)) for drawn in draws)
        print(f"| {name} | {made / RATE / (time.process_time() - start):.0f} |", flush=True)


if __name__ == "__main__":
    main()
