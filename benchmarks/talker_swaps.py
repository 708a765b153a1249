"""For what share of a long two-talker recording do talkers sit on each other's track?

Builds recordings of real test utterances by two people: turns, both at once, monologues and pauses over many chunks.
Separates them with a model (``--model ADDRESS``), or with an oracle that knows the sources, leaks a little of each
voice into the other output, and returns them in a random order and at random levels in every chunk: the faults that
joining chunks must mend. (Its leak is a copy, so levels more random than the leak is weak would leave nothing by which
to tell one talker's output from the other's.) Prints one line per recording and the worst. ``--fingerprint spectra``
joins chunks without a speaker model; ``--speech together`` has both speak all the time, and ``--noise-db`` adds noise.

Needs the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import torch

from auriscope.data.corpora import utterances
from auriscope.data.pool import noise_store
from auriscope.pretrained import load
from auriscope.separation.fingerprint import SpectralFingerprint
from auriscope.separation.joining import Fingerprint
from auriscope.separation.long import LongConfig, separate_stream
from auriscope.signal.files import read
from auriscope.verbs.voice import VoiceReader

SAMPLE_RATE = 16000
BLOCK_SECONDS = 0.5
ORACLE_LEAK = 0.1


def voices(max_speakers: int, split: str = "test") -> dict[str, list[np.ndarray]]:
    """Speakers of a split with the most speech, and their utterances at one level."""
    found: dict[str, list[np.ndarray]] = {}
    for corpus in ("libri_other_10spk", "commonvoice_en"):
        for utterance in utterances(corpus, split):
            waveform, _ = read(utterance.path, sample_rate=SAMPLE_RATE)
            waveform = waveform * (0.05 / (waveform.std() + 1e-9))
            found.setdefault(utterance.speaker, []).append(waveform)
    ranked = sorted(found, key=lambda speaker: -sum(map(len, found[speaker])))
    return {speaker: found[speaker] for speaker in ranked[:max_speakers]}


def conversation(first: list[np.ndarray], second: list[np.ndarray], seconds: float, seed: int) -> np.ndarray:
    """Two talkers taking turns, interrupting each other, pausing: (2, time)."""
    generator = np.random.default_rng(seed)
    sources = np.zeros((2, round(seconds * SAMPLE_RATE)), np.float32)
    said = [0, 0]
    position = 0
    while position < sources.shape[1]:
        who = generator.choice(["first", "second", "both", "monologue", "pause"], p=[0.25, 0.25, 0.25, 0.1, 0.15])
        end = position
        if who == "pause":
            end += round(generator.uniform(2.0, 20.0) * SAMPLE_RATE)
        elif who == "monologue":
            talker = int(generator.integers(2))
            for _ in range(5):
                end = speak(sources, (first, second)[talker], talker, said, end) + SAMPLE_RATE // 3
        else:
            talkers = {"first": [0], "second": [1], "both": [0, 1]}[str(who)]
            ends = [
                speak(sources, (first, second)[talker], talker, said, position + round(order * SAMPLE_RATE))
                for order, talker in enumerate(generator.permutation(talkers))
            ]
            end = max(ends)
        position = end + round(generator.exponential(0.5) * SAMPLE_RATE)
    return sources


def speak(sources: np.ndarray, speech: list[np.ndarray], talker: int, said: list[int], start: int) -> int:
    """Let a talker say the next utterance from ``start``; returns where it ends."""
    waveform = speech[said[talker] % len(speech)]
    said[talker] += 1
    room = sources[talker, start : start + len(waveform)]
    room += waveform[: len(room)]
    return start + len(waveform)


def together(first: list[np.ndarray], second: list[np.ndarray], seconds: float, seed: int) -> np.ndarray:
    """Two talkers who speak all the time: (2, time)."""
    generator = np.random.default_rng(seed)
    sources = np.zeros((2, round(seconds * SAMPLE_RATE)), np.float32)
    said = [0, 0]
    for talker, speech in enumerate((first, second)):
        position = 0
        while position < sources.shape[1]:
            position = speak(sources, speech, talker, said, position) + round(generator.uniform(0.0, 0.3) * SAMPLE_RATE)
    return sources


def noise(speech: np.ndarray, snr_db: float, split: str, seed: int) -> np.ndarray:
    """One recorded noise after the other, each so much below the speech, which is (time,)."""
    store = noise_store(split, sample_rate=SAMPLE_RATE)
    generator = np.random.default_rng(seed)
    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < len(speech):
        clip = np.asarray(store.read(int(generator.integers(len(store))), 0, 30 * SAMPLE_RATE))
        pieces.append(clip / (clip.std() + 1e-9))
    level = speech.std() * 10.0 ** (-snr_db / 20.0)
    return np.asarray(level * np.concatenate(pieces)[: len(speech)], np.float32)


class PermutingOracle:
    """Finds the stretch that it is given in the mixture and returns its sources in a random order and at random levels.

    Chunks start at multiples of the hop, so that few places have to be tried.
    """

    def __init__(self, sources: np.ndarray, config: LongConfig, seed: int) -> None:
        self.config = SimpleNamespace(sample_rate=SAMPLE_RATE, num_sources=len(sources))
        self.sources, self.mixture = sources, sources.sum(axis=0)
        self.hop = round((config.chunk_seconds_for(len(sources)) - config.overlap_seconds) * SAMPLE_RATE)
        self.generator = np.random.default_rng(seed)

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        """Map (1, time) to (1, sources, time)."""
        given = mixture[0].numpy()
        probe = slice(None, None, 16)

        def likeness(start: int) -> float:
            stretch = self.mixture[start : start + len(given)]
            norm = float(np.linalg.norm(stretch[probe]) * np.linalg.norm(given[: len(stretch)][probe]))
            return float(stretch[probe] @ given[: len(stretch)][probe]) / norm if norm > 0.0 else -1.0

        start = max(range(0, len(self.mixture), self.hop), key=likeness)
        stretch = self.sources[:, start : start + len(given)]
        estimates = np.zeros((len(self.sources), len(given)), np.float32)
        estimates[:, : stretch.shape[1]] = (1.0 - ORACLE_LEAK) * stretch + ORACLE_LEAK * stretch[::-1]
        gains = self.generator.uniform(0.5, 2.0, (len(estimates), 1)).astype(np.float32)
        return torch.from_numpy((gains * estimates)[self.generator.permutation(len(estimates))])[None]


def swaps(tracks: np.ndarray, sources: np.ndarray) -> tuple[float, float]:
    """Share of the half-second blocks with speech in which the tracks fit the talkers better the other way round.

    Against the order that is right over the whole recording. Returns the share and the SI-SNR of the mean track, dB.
    """
    size = round(BLOCK_SECONDS * SAMPLE_RATE)
    count = tracks.shape[1] // size

    def blocks(waveforms: np.ndarray) -> np.ndarray:
        return waveforms[:, : count * size].reshape(2, count, size).astype(np.float64)

    heard, spoken = blocks(tracks), blocks(sources)
    fit = {order: np.sum(heard[list(order)] * spoken, axis=(0, 2)) for order in ((0, 1), (1, 0))}
    power = np.sum(spoken**2, axis=(0, 2))
    active = power > 1e-3 * np.percentile(power, 95)
    best = max(fit, key=lambda order: fit[order].sum())
    swapped = active & (fit[best[::-1]] > fit[best])
    ordered = tracks[list(best)].astype(np.float64)
    target = np.sum(ordered * sources, axis=1) / np.sum(sources.astype(np.float64) ** 2, axis=1)
    target = target[:, None] * sources
    ratio = np.sum(target**2, axis=1) / np.sum((ordered - target) ** 2, axis=1)
    return float(swapped.sum() / active.sum()), float(np.mean(10.0 * np.log10(ratio)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="address of a separation model for two talkers; by default the oracle")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--speakers", type=int, default=4, help="every pair of so many speakers makes a recording")
    parser.add_argument("--fingerprint", default="voices", choices=["voices", "spectra"], help="what joins chunks")
    parser.add_argument("--speech", default="turns", choices=["turns", "together"], help="how they speak")
    parser.add_argument("--noise-db", type=float, help="signal-to-noise ratio of noise that is added, dB")
    parser.add_argument("--split", default="test", choices=["valid", "test"], help="whose speakers talk")
    parser.add_argument("--chunk", type=float, default=LongConfig().chunk_seconds_for(2))
    parser.add_argument("--overlap", type=float, default=LongConfig().overlap_seconds)
    arguments = parser.parse_args()
    config = LongConfig(chunk_seconds=arguments.chunk, overlap_seconds=arguments.overlap)
    model = load(arguments.model) if arguments.model else None
    fingerprint: Fingerprint = (
        SpectralFingerprint() if arguments.fingerprint == "spectra" else VoiceReader().fingerprint
    )
    shares = []
    for seed, (first, second) in enumerate(combinations(voices(arguments.speakers, arguments.split).items(), 2)):
        speech = together if arguments.speech == "together" else conversation
        sources = speech(first[1], second[1], 60.0 * arguments.minutes, seed)
        separator = model or PermutingOracle(sources, config, seed)
        mixture = sources.sum(axis=0)
        if arguments.noise_db is not None:
            mixture = mixture + noise(mixture, arguments.noise_db, arguments.split, seed)
        blocks = np.split(mixture, range(SAMPLE_RATE, len(mixture), SAMPLE_RATE))
        tracks = separate_stream(blocks, separator, sample_rate=SAMPLE_RATE, config=config, fingerprint=fingerprint)
        share, si_snr_db = swaps(np.concatenate(list(tracks), axis=1), sources)
        shares.append(share)
        print(f"{first[0]} with {second[0]}: swapped {100 * share:.2f} % of the time, {si_snr_db:.1f} dB", flush=True)
    print(f"mean {100 * float(np.mean(shares)):.2f} %, worst {100 * max(shares):.2f} % of the time")


if __name__ == "__main__":
    main()
