"""Fit the speaker counter on mixtures of valid speakers and measure it on test speakers.

Recordings of one to four talkers ("four" stands for more than can be told): at once and by turns, clean and in noise
and rooms. ``--separators`` names the models whose outputs are judged, by default those shipped for two and for three
talkers; ``--out`` writes the coefficients, by default where ``separate --speakers auto`` finds them. Needs the real
data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from auriscope.data.mixing import DynamicMixer, MixingConfig
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.separation.counting import SHIPPED_COUNTER, CountClassifier, separation_features
from auriscope.separation.long import Separator
from auriscope.verbs.defaults import default_separator

COUNTS = (1, 2, 3, 4)
TURN_SHARE = 0.5


def recordings(split: str, num_each: int, seed: int, sample_rate: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (recording (time,), how many talk in it)."""
    for count in COUNTS:
        config = MixingConfig(
            sample_rate=sample_rate,
            num_sources=count,
            segment_seconds=12.0,
            batch_size=1,
            split=split,
            speed=(1.0, 1.0),
            noise_probability=0.4,
            snr_db=(5.0, 25.0),
            room_probability=0.4,
            # The measured rooms of the test split have places for three.
            measured_room_share=0.2 if count <= 3 else 0.0,
        )
        mixer = DynamicMixer(config, seed=seed)
        generator = np.random.default_rng([seed, count])
        for index in range(num_each):
            batch = mixer.batch(index)
            sources, noise = batch["sources"][0].numpy(), batch["noise"][0].numpy()
            if generator.random() < TURN_SHARE:
                sources = sources * turns(count, sources.shape[1], generator)
            yield sources.sum(axis=0) + noise, count


def turns(count: int, num_frames: int, generator: np.random.Generator) -> np.ndarray:
    """Let everybody speak at least once, one or two at a time: masks (talkers, time) with soft edges."""
    num_turns = 2 * count + int(generator.integers(3))
    edges = np.sort(generator.uniform(0.0, 1.0, num_turns - 1))
    turn = np.searchsorted(edges, np.linspace(0.0, 1.0, num_frames))
    masks = np.zeros((count, num_turns), np.float32)
    masks[generator.permutation(num_turns) % count, np.arange(num_turns)] = 1.0
    masks[generator.integers(count), generator.integers(num_turns)] = 1.0
    kernel = np.hanning(401) / np.hanning(401).sum()
    return np.stack([np.convolve(mask[turn], kernel, mode="same") for mask in masks]).astype(np.float32)


def examples(
    split: str, num_each: int, seed: int, separators: Sequence[Separator]
) -> tuple[list[dict[str, float]], list[int]]:
    """Separate and describe recordings; those in which nobody is heard are left out."""
    sample_rate = int(separators[0].config.sample_rate)
    features, counts = [], []
    for recording, count in recordings(split, num_each, seed, sample_rate):
        found = separation_features(recording, separators, sample_rate=sample_rate)
        if found is not None:
            features.append(found)
            counts.append(count)
    return features, counts


def shipped() -> list[str]:
    """Addresses of the shipped separators for two and, where there is one, for three talkers."""
    addresses = [default_separator(2)]
    try:
        addresses.append(default_separator(3))
    except AuriscopeError:
        print("no separator for three talkers is shipped: three and more will not be told apart")
    return addresses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--separators", nargs="+", help="addresses of separation models")
    parser.add_argument("--examples", type=int, default=150, help="recordings of each number of talkers to fit on")
    parser.add_argument("--test-examples", type=int, default=60)
    parser.add_argument("--out", type=Path, default=SHIPPED_COUNTER)
    arguments = parser.parse_args()
    addresses = arguments.separators or shipped()
    separators = [load(address) for address in addresses]
    largest = max(int(separator.config.num_sources) for separator in separators)
    features, counts = examples("valid", arguments.examples, 0, separators)
    classifier = CountClassifier.fit(features, counts, separators=addresses, max_separated=largest)
    features, counts = examples("test", arguments.test_examples, 1, separators)
    decided = [classifier.classes[int(np.argmax(classifier.probabilities(one)))] for one in features]
    table = np.zeros((len(COUNTS), len(COUNTS)), int)
    for truth, answer in zip(counts, decided, strict=True):
        table[COUNTS.index(truth), COUNTS.index(answer)] += 1
    print("rows: talkers in the recording; columns: answer (4: more than 3)")
    for truth, row in zip(COUNTS, table, strict=True):
        print(f"{truth}: {' '.join(f'{number:4d}' for number in row)}   right {100 * row[truth - 1] / row.sum():.0f} %")
    print(f"right on unseen speakers: {100 * np.trace(table) / table.sum():.1f} % of {table.sum()}")
    classifier.save(arguments.out)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
