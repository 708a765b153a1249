"""Find sounds of one set that are recordings of another one too: whole, cut, at another level, coded or equalised.

    python benchmarks/near_copies.py manifests/debian-sounds sound-events:valid sound-events:test

Sets are folders that ``prepare`` wrote, or sets of labelled sounds, each with a split (without one, train). The loudest
seconds of either are sought in the other by their mel spectrum (patches of 0.64 s at every offset), and where it is
alike, compared by their waveform, whitened: the largest normalised correlation says how alike they are, 0 to 1. An
excerpt that went through the corpora's codec keeps more than 0.4 nearly always, and different things hardly ever have
so much, but for toms and kick drums, which ring at one pitch. What was played at another speed is not found, and
neither are sounds that whitening makes a click, such as electronic kick drums.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.labelled import LabelledSet
from auriscope.signal.mel import log_mel

RATE = 16_000
HOP, FRAMES, MELS = 320, 32, 32
SNIPPETS, SNIPPET_FRAMES = 3, RATE
ALIKE_BY_MELS = 0.45
LEAST = 0.4
LEAST_SAMPLES = 50
SLACK = 4 * HOP
FloatArray = NDArray[np.float32]


def whitened(waveform: FloatArray) -> FloatArray:
    """Flatten the spectrum (time,) between 100 and 7000 Hz over 200 Hz, so that a tone does not outweigh the rest.

    What is more than 50 dB below the strongest stays as weak: of it, a codec leaves little.
    """
    # Zeros behind, so that nothing goes round from one end to the other.
    length = len(waveform) + RATE // 10
    spectrum = np.fft.rfft(waveform, length)
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    reach = round(100 * length / RATE)
    sums = np.cumsum(np.pad(np.abs(spectrum) ** 2, (reach + 1, reach)))
    power = (sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1)
    gain = 1 / np.sqrt(power + 1e-5 * power.max(initial=0.0) + 1e-20)
    gain[(frequency < 100) | (frequency > 7000)] = 0.0
    return np.fft.irfft(spectrum * gain, length)[: len(waveform)].astype(np.float32)


def snippets(waveform: FloatArray) -> list[tuple[int, int]]:
    """Choose up to three loud stretches (start, end) of a second that do not overlap; a shorter sound is one."""
    if len(waveform) <= SNIPPET_FRAMES:
        return [(0, len(waveform))]
    energy = np.cumsum(np.concatenate([[0.0], np.square(waveform, dtype=np.float64)]))
    starts = np.arange(0, len(waveform) - SNIPPET_FRAMES + 1, HOP)
    loudness = energy[starts + SNIPPET_FRAMES] - energy[starts]
    chosen: list[int] = []
    for number in np.argsort(-loudness):
        start = int(starts[number])
        if len(chosen) < SNIPPETS and all(abs(start - other) >= SNIPPET_FRAMES for other in chosen):
            chosen.append(start)
    return [(start, start + SNIPPET_FRAMES) for start in chosen]


def largest_correlation(snippet: FloatArray, waveform: FloatArray) -> float:
    """The peak of the normalised cross-correlation of a snippet that slides over a longer waveform, 0 to 1."""
    size = 1 << len(waveform).bit_length()
    product = np.fft.rfft(waveform, size) * np.conj(np.fft.rfft(snippet, size))
    number = len(waveform) - len(snippet) + 1
    correlation = np.abs(np.fft.irfft(product, size)[:number])
    energy = np.cumsum(np.concatenate([[0.0], np.square(waveform, dtype=np.float64)]))
    local = energy[len(snippet) :] - energy[:number]
    # Silence is like nothing, and the few samples at either end, where the snippet stands out, are like too much.
    local = np.maximum(local, 0.1 * local.max(initial=0.0) + 1e-20)
    norm = np.sqrt(local * np.square(snippet, dtype=np.float64).sum() + 1e-20)
    return float((correlation / norm).max(initial=0.0))


def told(snippet: FloatArray) -> bool:
    """Whether a whitened snippet can be told from others: is more than a click, and not silent."""
    energy = np.square(snippet, dtype=np.float64)
    # The number of samples that hold the energy, were it the same in each.
    return bool(energy.sum() ** 2 > LEAST_SAMPLES * np.square(energy).sum())


@dataclass(frozen=True)
class Heard:
    """A waveform (time,) at 16 kHz, whitened, and where its snippets are."""

    waveform: FloatArray
    flat: FloatArray
    snippets: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, waveform: FloatArray) -> Heard:
        """Whiten a waveform, and choose its snippets, of which there may be none."""
        flat = whitened(waveform)
        return cls(waveform, flat, [(start, end) for start, end in snippets(waveform) if told(flat[start:end])])


def patches(waveform: FloatArray, starts: Sequence[int] | None) -> torch.Tensor:
    """Mel spectra (patches, frames * bands) of unit norm: of the snippets at ``starts``, or at every offset."""
    padded = torch.from_numpy(np.pad(waveform, (0, HOP * FRAMES)))
    mels = log_mel(padded, RATE, num_mels=MELS, window_length=2 * HOP, hop_length=HOP, min_hz=100.0, max_hz=7000.0)
    mels = mels.clamp_min(float(mels.max()) - 50.0)
    every = mels.unfold(0, FRAMES, 1)
    chosen = every if starts is None else every[torch.tensor([start // HOP for start in starts])]
    # Spectra and envelopes are much the same in all of a class; what is left without either is not.
    centred = chosen - chosen.mean(2, keepdim=True)
    flat = (centred - centred.mean(1, keepdim=True)).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)


@dataclass(frozen=True)
class Place:
    """Where a snippet (start, end) of a sound has a mel spectrum that another sound has at ``there``, nearly."""

    snippet: tuple[int, int]
    there: int

    def likeness(self, one: Heard, other: Heard) -> float:
        """How surely it is the same recording, 0 to 1."""
        start, end = self.snippet
        first = self.there - SLACK
        last = self.there + end - start + SLACK
        around = other.flat[max(0, first) : max(0, last)]
        before = max(0, -first)
        return largest_correlation(
            one.flat[start:end], np.pad(around, (before, max(0, last - first - before - len(around))))
        )


def maybe_alike(ones: Sequence[Heard], others: Sequence[Heard]) -> Iterator[tuple[int, int, Place]]:
    """Of ones and others, the numbers of those that have a mel spectrum in common, and where."""
    places = [(number, snippet) for number, one in enumerate(ones) for snippet in one.snippets]
    wanted = [patches(one.waveform, [start for start, _ in one.snippets]) for one in ones if one.snippets]
    if not wanted:
        return
    every = torch.cat(wanted)
    for number, other in enumerate(others):
        best, frames = (patches(other.waveform, None) @ every.T).max(0)
        for index in torch.nonzero(best > ALIKE_BY_MELS).flatten().tolist():
            owner, snippet = places[index]
            yield owner, number, Place(snippet, int(frames[index]) * HOP)


def near_copies(ones: Sequence[Heard], others: Sequence[Heard], least: float = LEAST) -> list[tuple[float, int, int]]:
    """The pairs that are at least so alike: how much, the number of the one, and of the other; the most alike first."""
    found: dict[tuple[int, int], float] = {}
    for one, other, place in maybe_alike(ones, others):
        alike = place.likeness(ones[one], others[other])
        found[one, other] = max(alike, found.get((one, other), 0.0))
    for other, one, place in maybe_alike(others, ones):
        alike = place.likeness(others[other], ones[one])
        found[one, other] = max(alike, found.get((one, other), 0.0))
    return sorted(((alike, *pair) for pair, alike in found.items() if alike >= least), reverse=True)


def sounds(named: str) -> tuple[list[str], list[Heard]]:
    """The names and sounds of a set and split, ``SET:SPLIT``."""
    name, _, split = named.partition(":")
    found = LabelledSet(name, split or "train", sample_rate=RATE)
    return [sound.id for sound in found], [Heard.of(sound.waveform) for sound in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", help="the set that is searched, SET:SPLIT")
    parser.add_argument("others", nargs="+", help="sets whose recordings are looked for")
    parser.add_argument("--least", type=float, default=LEAST, help="how alike pairs are that are told")
    options = parser.parse_args()
    names, heard = sounds(options.set)
    for other in options.others:
        their_names, theirs = sounds(other)
        found = near_copies(heard, theirs, options.least)
        print(f"# {other}: {len(theirs)} sounds, {len({one for _, one, _ in found})} of {len(names)} are like one")
        for alike, one, number in found:
            print(f"{alike:.2f},{names[one]},{their_names[number]}", flush=True)


if __name__ == "__main__":
    main()
