"""Recognise isolated digits by GMM-HMMs, known speakers and unseen ones: the table of docs/systems/gmm-hmm.md.

    benchmarks/digits_gmmhmm.py [--save FOLDER] [key=value ...]

``key=value`` are fields of the configuration, such as ``num_mixtures=4``; ``--save`` keeps the recogniser of the
official split, for ``load`` and ``transcribe``. On ``fsdd_digits``: by the corpus' own split
(takes 0 to 4 of every speaker are the test part), and with each of the six speakers left out in turn.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from auriscope.data.cache import open_clips
from auriscope.data.corpora import Utterance, utterances
from auriscope.data.manifest import SPLITS
from auriscope.data.transcribed import letters, padded
from auriscope.pretrained.card import ModelCard
from auriscope.recognition.gmmhmm import DIGITS, GMMHMM, FeatureBatch, GMMHMMConfig


def main() -> None:
    """Fit seven recognisers, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("changes", nargs="*", metavar="key=value")
    parser.add_argument("--save", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    changes = dict(change.split("=", 1) for change in options.changes)
    config = dataclasses.replace(GMMHMMConfig(), **{name: ast.literal_eval(value) for name, value in changes.items()})
    entries = [entry for split in SPLITS for entry in utterances("fsdd_digits", split)]
    store = open_clips(entries, sample_rate=config.sample_rate, name="fsdd-digits-all")
    batch = padded([store.read(clip) for clip in range(len(entries))])
    labels = torch.tensor([DIGITS.index(letters(entry.text or "")) for entry in entries])
    waveform, lengths = batch["waveform"], batch["lengths"]
    begin = time.process_time()
    speakers = sorted({entry.speaker for entry in entries})
    # Features once for all of the fits: those of a speaker's test takes, and of the others.
    parts: dict[tuple[str, bool], list[FeatureBatch]] = {}
    for speaker in speakers:
        for held_out in (False, True):
            rows = _rows(entries, lambda entry, s=speaker, h=held_out: entry.speaker == s and entry.held_out == h)
            parts[speaker, held_out] = GMMHMM(config).batches(waveform[rows], lengths[rows], labels[rows])

    def fitted(names: list[tuple[str, bool]]) -> GMMHMM:
        return GMMHMM(config).fit_features([batch for name in names for batch in parts[name]])

    def accuracy(model: GMMHMM, tested: torch.Tensor) -> float:
        found, _ = model.classify(waveform[tested], lengths[tested])
        return float((found == labels[tested]).double().mean())

    held_out = _rows(entries, lambda entry: entry.held_out)
    recognizer = fitted([(speaker, False) for speaker in speakers])
    official = accuracy(recognizer, held_out)
    print(f"| official split | {100 * official:.2f} % |")
    unseen = []
    for speaker in speakers:
        rows = _rows(entries, lambda entry, s=speaker: entry.speaker == s)
        unseen.append(accuracy(fitted([name for name in parts if name[0] != speaker]), rows))
        print(f"| without {speaker.split(':')[1]} | {100 * unseen[-1]:.2f} % |")
    print(f"| leave one speaker out | {100 * np.mean(unseen):.2f} % |")
    seconds = time.process_time() - begin
    print(f"{GMMHMM(config).num_parameters:,} parameters; {seconds:.0f} s of processor time for all seven")
    if options.save:
        recognizer.save_pretrained(options.save, card=_card(official, float(np.mean(unseen))))


def _card(official: float, unseen: float) -> ModelCard:
    return ModelCard(
        title="GMM-HMM, isolated English digits, 16 kHz",
        summary="One hidden Markov model per digit, fitted to six speakers: words with pauses between them.",
        licence="CC-BY-SA-4.0",
        data=("fsdd_digits",),
        attributions=("Free Spoken Digit Dataset, Z. Jackson and others, CC BY-SA 4.0",),
        command="benchmarks/digits_gmmhmm.py --save FOLDER",
        metrics={
            "word_error_percent fsdd_digits official test part": 100.0 * (1.0 - official),
            "word_error_percent fsdd_digits without the speaker": 100.0 * (1.0 - unseen),
        },
        limits=("Nothing but the ten digits: every other word is heard as one of them.", "Six speakers, little noise."),
    )


def _rows(entries: list[Utterance], wanted: Callable[[Utterance], bool]) -> torch.Tensor:
    return torch.tensor([row for row, entry in enumerate(entries) if wanted(entry)])


if __name__ == "__main__":
    main()
