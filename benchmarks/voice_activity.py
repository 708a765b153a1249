"""Voice activity on real sound: how much loud speech is missed, clean and in noise, and how much of the rest is kept.

Loud are the frames of 10 ms of the clean recording within 20 dB of its 95th percentile. Run with AURISCOPE_CORPORA set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auriscope.data.corpora import corpora_root
from auriscope.data.manifest import read_manifest
from auriscope.recognition.voice import find_voice
from auriscope.signal.files import read

RATE = 16_000
STEADY = ("rain", "coffee_shop", "city", "fireplace", "white_noise", "pink_noise", "exercise_bike", "storm")
FloatArray = NDArray[np.float32]


def recordings(root: Path, corpus: str, number: int, labels: tuple[str, ...] = ()) -> list[FloatArray]:
    """Read so many recordings of a corpus, drawn by a fixed seed."""
    entries = [entry for entry in read_manifest(root / corpus / "manifest.csv") if not labels or entry.label in labels]
    drawn = np.random.default_rng(0).permutation(len(entries))[:number]
    return [read(root / corpus / entries[index].path, sample_rate=RATE)[0] for index in drawn]


def kept(waveform: FloatArray) -> NDArray[np.bool_]:
    """Say of every sample whether it is taken for speech."""
    found = np.zeros(len(waveform), dtype=bool)
    for begin, end in find_voice([waveform], RATE):
        found[begin:end] = True
    return found


def missed(clean: FloatArray, heard: FloatArray) -> tuple[int, int]:
    """Count the loud frames that are not taken for speech, and all loud frames."""
    number = len(clean) // 160
    levels = 10 * np.log10(np.square(clean[: number * 160].reshape(number, 160).astype(np.float64)).mean(1) + 1e-12)
    loud = levels > np.percentile(levels, 95) - 20
    found = kept(heard)[: number * 160].reshape(number, 160).mean(1) > 0.5
    return int((loud & ~found).sum()), int(loud.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=60, help="recordings of each corpus of speech")
    number = parser.parse_args().number
    root = corpora_root()
    noises = recordings(root, "noise", 1000, STEADY)
    for corpus in ("libri_eval50_flac", "commonvoice_en"):
        speech = recordings(root, corpus, number)
        for ratio_db in (None, 10.0, 5.0, 0.0):
            rng = np.random.default_rng(1)
            counts = np.zeros(2)
            for clean in speech:
                heard = clean
                if ratio_db is not None:
                    noise = np.resize(noises[rng.integers(len(noises))], len(clean))
                    gain = np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (ratio_db / 10))
                    heard = (clean + gain * noise).astype(np.float32)
                counts += missed(clean, heard)
            where = "clean" if ratio_db is None else f"in noise at {ratio_db:g} dB"
            print(f"{corpus} {where}: {100 * counts[0] / counts[1]:.2f} % of loud frames missed", flush=True)
    for corpus, most in (("noise", 1000), ("piano_notes", 1000), ("sound_events", 200)):
        found = np.concatenate([kept(sound) for sound in recordings(root, corpus, most)])
        print(
            f"{corpus}: {100 * found.mean():.1f} % of {len(found) / RATE / 60:.0f} minutes taken for speech", flush=True
        )


if __name__ == "__main__":
    main()
