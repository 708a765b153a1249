"""Measure three ways of counting talkers, side by side, on mixtures and conversations of unseen speakers.

The count head (``--head``, a folder that ``auriscope train recipes/separation/counter-mini.yaml`` makes), VSUNOS'
selection among the separators for two and for three talkers with thresholds fitted on valid speakers, and the fitted
rule that ``separate --speakers auto`` uses. One to three talkers, clean and in noise and rooms, half of them by turns;
an answer of more than three counts as three. Needs the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from auriscope.pretrained import load
from auriscope.separation.counting import SHIPPED_COUNTER, CountClassifier, estimate_num_speakers
from auriscope.separation.long import LongConfig, Separator, separate_waveform
from auriscope.separation.selection import fit_thresholds_db, select_separation, track_depths_db
from auriscope.signal.rates import resample_array
from fit_counting import recordings, shipped

NUMBERS = (1, 2, 3)
METHODS = ("head", "selection", "rule")


def up_to_three(split: str, num_each: int, seed: int, sample_rate: int) -> Iterator[tuple[np.ndarray, int]]:
    """Recordings (time,) of one to three talkers, ``num_each`` of each, and their numbers."""
    return islice(recordings(split, num_each, seed, sample_rate), len(NUMBERS) * num_each)


def separating(separator: Separator, sample_rate: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Map (1, time) to (1, sources, time), recordings of any length."""

    def separate(mixture: torch.Tensor) -> torch.Tensor:
        tracks = separate_waveform(mixture[0].numpy(), separator, sample_rate=sample_rate, config=LongConfig())
        return torch.from_numpy(tracks)[None]

    return separate


def table(name: str, truths: list[int], answers: list[int]) -> None:
    """Print the confusions of a way of counting and its accuracy."""
    answers = [min(answer, max(NUMBERS)) for answer in answers]
    counts = np.zeros((len(NUMBERS), len(NUMBERS)), int)
    for truth, answer in zip(truths, answers, strict=True):
        counts[truth - 1, answer - 1] += 1
    print(f"{name}: right {100 * np.mean(np.equal(truths, answers)):.1f} % of {len(truths)}")
    for truth, row in zip(NUMBERS, counts, strict=True):
        print(f"  {truth} talking: told {' '.join(f'{number:4d}' for number in row)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head", type=Path, help="folder or address of a trained count head")
    parser.add_argument("--examples", type=int, default=40, help="valid recordings of each number, for the thresholds")
    parser.add_argument("--test-examples", type=int, default=40, help="test recordings of each number")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="which of them; default: all")
    arguments = parser.parse_args()
    if "head" in arguments.methods and arguments.head is None:
        parser.error("the method head needs --head")
    rate = 16_000
    tests = list(up_to_three("test", arguments.test_examples, 1, rate))
    truths = [count for _, count in tests]
    if "head" in arguments.methods:
        head = load(str(arguments.head))
        answers = []
        for recording, _ in tests:
            narrow = resample_array(recording, rate, head.config.sample_rate)
            with torch.no_grad():
                answers.append(int(head(torch.from_numpy(narrow)[None]).argmax(-1)) + 1)
        table("count head", truths, answers)
    if "selection" in arguments.methods:
        chosen = selected([recording for recording, _ in tests], arguments.examples, rate)
        table("selection", truths, chosen)
    if "rule" in arguments.methods:
        classifier = CountClassifier.load(SHIPPED_COUNTER)
        fitted = [load(address) for address in classifier.separators]
        told = [estimate_num_speakers(recording, fitted, classifier, sample_rate=rate).count for recording, _ in tests]
        table("fitted rule", truths, told)


def selected(tests: list[np.ndarray], num_examples: int, rate: int) -> list[int]:
    """What the selection tells of each recording (time,), its thresholds fitted on ``num_examples`` of each number."""
    models = [load(address) for address in shipped()]
    separators = {int(model.config.num_sources): separating(model, rate) for model in models}
    depths: dict[int, list[float]] = {number: [] for number in separators}
    counts = []
    for recording, count in up_to_three("valid", num_examples, 0, rate):
        counts.append(count)
        for number, separate in separators.items():
            depths[number].append(float(track_depths_db(separate(torch.from_numpy(recording)[None])).max()))
    thresholds = fit_thresholds_db(depths, counts)
    print("thresholds: " + ", ".join(f"{number} tracks {value:.1f} dB" for number, value in thresholds.items()))
    return [select_separation(torch.from_numpy(recording), separators, thresholds).num_sources for recording in tests]


if __name__ == "__main__":
    main()
