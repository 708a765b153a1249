"""Find sounds of one set that are recordings of another one too: whole, cut, at another level, coded or equalised.

    python benchmarks/near_copies.py manifests/debian-sounds sound-events:valid sound-events:test

Sets are folders that ``prepare`` wrote, or sets of labelled sounds, each with a split (without one, train). What could
be alike by its mel spectrum (patches of 0.64 s at every offset) is compared by its waveform: the loudest seconds of
either, whitened, slide over the other, and the largest normalised correlation says how alike they are, 0 to 1. The
codec of the corpora leaves more than 0.45 of what is the same in 99 of 100 excerpts, and different things of one class
are less than 0.3 alike. What was played at another speed is not found, and a tone that was made, not recorded, may be
taken for another of the same pitch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.labelled import LabelledSet
from auriscope.signal.mel import log_mel

RATE = 16_000
HOP, FRAMES, MELS = 320, 32, 32
SNIPPETS, SNIPPET_FRAMES = 3, RATE
ALIKE_BY_MELS = 0.55
LEAST = 0.45
FloatArray = NDArray[np.float32]


def whitened(waveform: FloatArray) -> FloatArray:
    """Flatten the spectrum (time,) between 100 and 7000 Hz over 200 Hz, so that a tone does not outweigh the rest.

    What is more than 50 dB below the strongest stays as weak: of it, a codec leaves little.
    """
    spectrum = np.fft.rfft(waveform)
    frequency = np.fft.rfftfreq(len(waveform), 1 / RATE)
    reach = round(100 * len(waveform) / RATE)
    sums = np.cumsum(np.pad(np.abs(spectrum) ** 2, (reach + 1, reach)))
    power = (sums[2 * reach + 1 :] - sums[: -2 * reach - 1]) / (2 * reach + 1)
    gain = 1 / np.sqrt(power + 1e-5 * power.max(initial=0.0) + 1e-20)
    gain[(frequency < 100) | (frequency > 7000)] = 0.0
    return np.fft.irfft(spectrum * gain, len(waveform)).astype(np.float32)


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
    """The peak of the normalised cross-correlation of a snippet that slides over a waveform, 0 to 1.

    The snippet may stand out over either end by a tenth of its length.
    """
    over = len(snippet) // 10
    padded = np.pad(waveform, (over, over + max(0, len(snippet) - len(waveform))))
    size = 1 << (len(padded) + len(snippet)).bit_length()
    product = np.fft.rfft(padded, size) * np.conj(np.fft.rfft(snippet, size))
    number = len(padded) - len(snippet) + 1
    correlation = np.abs(np.fft.irfft(product, size)[:number])
    energy = np.cumsum(np.concatenate([[0.0], np.square(padded, dtype=np.float64)]))
    local = energy[len(snippet) :] - energy[:number]
    # Silence is like nothing.
    local = np.maximum(local, 1e-3 * local.max(initial=0.0) + 1e-20)
    norm = np.sqrt(local * np.square(snippet, dtype=np.float64).sum() + 1e-20)
    return float((correlation / norm).max(initial=0.0))


@dataclass(frozen=True)
class Heard:
    """A waveform (time,) at 16 kHz, whitened, and where its snippets are."""

    waveform: FloatArray
    flat: FloatArray
    snippets: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, waveform: FloatArray) -> Heard:
        """Whiten a waveform, and choose its snippets."""
        return cls(waveform, whitened(waveform), snippets(waveform))


def likeness(one: Heard, other: Heard) -> float:
    """How surely two sounds hold the same recording, 0 to 1."""
    return max(
        *(largest_correlation(one.flat[start:end], other.flat) for start, end in one.snippets),
        *(largest_correlation(other.flat[start:end], one.flat) for start, end in other.snippets),
    )


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


def maybe_alike(ones: Sequence[Heard], others: Sequence[Heard]) -> set[tuple[int, int]]:
    """The pairs (of ones, of others) where a snippet of the one has a mel spectrum that the other has somewhere."""
    drawn = [patches(one.waveform, [start for start, _ in one.snippets]) for one in ones]
    owners = torch.cat([torch.full((len(own),), number) for number, own in enumerate(drawn)])
    wanted, found = torch.cat(drawn), set()
    for number, other in enumerate(others):
        best = (patches(other.waveform, None) @ wanted.T).amax(0)
        found |= {(owner, number) for owner in owners[best > ALIKE_BY_MELS].tolist()}
    return found


def near_copies(ones: Sequence[Heard], others: Sequence[Heard], least: float = LEAST) -> list[tuple[float, int, int]]:
    """The pairs that are at least so alike: how much, the number of the one, and of the other; the most alike first."""
    pairs = maybe_alike(ones, others) | {(one, other) for other, one in maybe_alike(others, ones)}
    told = ((likeness(ones[one], others[other]), one, other) for one, other in sorted(pairs))
    return sorted((found for found in told if found[0] >= least), reverse=True)


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
