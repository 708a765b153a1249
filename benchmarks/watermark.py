"""How often the mark of synthetic speech is found again, how often it is found where there is none, and what it costs.

    AURISCOPE_CORPORA=… python benchmarks/watermark.py [--strength-db 2.0] [--max-items 100]

Marks real speech of the test splits of two corpora, at 16 kHz and at most 10 s, as if it were synthetic. Prints PESQ
(wide band) of the marked speech against the plain one, and the share that is found: as it is, cut to a few seconds,
coded as Opus and MP3, at other rates, quieter, in noise; and of the plain speech, of all splits, the share that is
taken for marked by mistake. Needs the extra ``perceptual`` for PESQ.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pesq import pesq

from auriscope.data.corpora import utterances
from auriscope.signal.files import read
from auriscope.synthesis.watermark import STRENGTH_DB, THRESHOLD, detect, mark

RATE = 16_000
FloatArray = NDArray[np.float32]
MARKED = ("ljspeech_1spk", "libri_eval50_flac")
PLAIN = ("libri_251spk", "libri_readers_3spk", "ljspeech_1spk", "tts_ljtext_1spk", "commonvoice_en")


def coded(waveform: FloatArray, container: str, subtype: str) -> tuple[FloatArray, int]:
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, format=container, subtype=subtype)
    file.seek(0)
    sound, rate = soundfile.read(file, dtype="float32")
    return sound, rate


def noisy(waveform: FloatArray, snr_db: float) -> FloatArray:
    noise = np.random.default_rng(0).standard_normal(len(waveform))
    return (waveform + noise * np.sqrt(np.mean(waveform**2) / 10 ** (snr_db / 10))).astype(np.float32)


CHANGES: dict[str, Callable[[FloatArray], tuple[FloatArray, int]]] = {
    "as it is": lambda x: (x, RATE),
    "2 s of it": lambda x: (x[12_345:][: 2 * RATE], RATE),
    "3 s of it": lambda x: (x[12_345:][: 3 * RATE], RATE),
    "5 s of it": lambda x: (x[12_345:][: 5 * RATE], RATE),
    "Opus": lambda x: coded(x, "OGG", "OPUS"),
    "MP3": lambda x: coded(x, "MP3", "MPEG_LAYER_III"),
    "8 kHz": lambda x: (soxr.resample(x, RATE, 8_000), 8_000),
    "44.1 kHz": lambda x: (soxr.resample(x, RATE, 44_100), 44_100),
    "20 dB quieter": lambda x: (x * np.float32(0.1), RATE),
    "noise at 20 dB": lambda x: (noisy(x, 20.0), RATE),
    "noise at 10 dB": lambda x: (noisy(x, 10.0), RATE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strength-db", type=float, default=STRENGTH_DB)
    parser.add_argument("--max-items", type=int, default=100)
    arguments = parser.parse_args()
    clips = [each for corpus in MARKED for each in utterances(corpus, "test", min_seconds=3.0)][: arguments.max_items]
    quality, scores = [], {name: [] for name in CHANGES}
    for clip in clips:
        plain, _ = read(clip.path, sample_rate=RATE, duration_seconds=10.0)
        marked = mark(plain, RATE, strength_db=arguments.strength_db)
        quality.append(pesq(RATE, plain, marked, "wb"))
        for name, change in CHANGES.items():
            scores[name].append(detect(*change(marked)).score)
    print(
        f"{len(clips)} utterances, {arguments.strength_db:g} dB: PESQ {np.mean(quality):.2f}, least {min(quality):.2f}"
    )
    for name, values in scores.items():
        found = np.array(values)
        print(f"  {name:16s} found {100 * np.mean(found >= THRESHOLD):5.1f} %, median score {np.median(found):.1f}")
    plain_scores = []
    for corpus in PLAIN:
        for split in ("train", "valid", "test"):
            for clip in utterances(corpus, split)[: arguments.max_items]:
                waveform, rate = read(clip.path)
                plain_scores.append(detect(waveform, rate).score)
    found = np.array(plain_scores)
    print(
        f"{len(found)} plain utterances: taken for marked {100 * np.mean(found >= THRESHOLD):.2f} %, "
        f"highest score {found.max():.1f}, threshold {THRESHOLD:g}"
    )


if __name__ == "__main__":
    main()
