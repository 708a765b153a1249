"""How fast every shipped model works: seconds of sound, or images, for a second of computing, as a person would use it.

    python benchmarks/model_speed.py [--seconds 60] [--repeats 3] [--threads 2] [MODEL …]

One recording of synthetic voices at a time (a batch of 256 random images, 64 of an interpreter; a synthesiser says
Harvard sentences in the voice of a synthetic clip), the model being loaded before. Prints the
median of the repeats, the slowest and the fastest.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from auriscope.classification.classifier import ImageClassifier
from auriscope.data.synthetic import voice
from auriscope.pretrained import list_shipped, load
from auriscope.quality import predict_long
from auriscope.recognition.long import transcribe_waveform
from auriscope.separation.long import LongConfig, separate_waveform
from auriscope.verbs.explain.methods import load_method
from auriscope.verbs.say import say
from auriscope.verbs.sayer import Sayer, SayerSettings

SENTENCES = Path(__file__).parent / "harvard_sentences.txt"
WINDOW_SECONDS = 5
_IMAGE = (1, 28, 28)

Work = Callable[[], float]
"""Does something once, and says how much: seconds of sound, or images."""


def recording(seconds: float, rate: int, voices: int = 2) -> np.ndarray:
    """Synthetic voices, float32 (time,)."""
    made = [voice(number, 0, seconds=seconds, sample_rate=rate) for number in range(voices)]
    return (0.3 * np.sum(made, axis=0)).astype(np.float32)


def work_of(address: str, seconds: float) -> tuple[Work, str] | None:
    """What to repeat of a model, and its unit; None for a language model, which hears nothing by itself."""
    room = address.split("/")[0]
    if address.startswith("recognition/word-ngram"):
        return None
    if room == "interpretation":
        return _explaining(address, seconds)
    if room == "synthesis":
        return _speaking(address), "s"
    model = load(address)
    if isinstance(model, ImageClassifier):
        return _seeing(model), "images"
    return _hearing(room, model, seconds), "s"


def _seeing(classifier: ImageClassifier) -> Work:
    images = torch.rand(256, *_IMAGE)

    def see() -> float:
        with torch.inference_mode():
            classifier.predict_proba(images)
        return float(len(images))

    return see


def _explaining(address: str, seconds: float) -> tuple[Work, str]:
    method = load_method(None, model=address)
    classifier = method.classifier
    if isinstance(classifier, ImageClassifier):
        images = torch.rand(64, *_IMAGE)

        def explain() -> float:
            method.interpreter.interpret(classifier, images)
            return float(len(images))

        return explain, "images"
    rate = int(classifier.config.sample_rate)
    spectra = classifier.spectrogram(torch.from_numpy(recording(seconds, rate)).view(-1, WINDOW_SECONDS * rate)).abs()

    def explain_sound() -> float:
        method.interpreter.interpret(classifier, spectra[:, None])
        return seconds

    return explain_sound, "s"


def _speaking(address: str) -> Work:
    folder = tempfile.TemporaryDirectory()
    clip = Path(folder.name) / "clip.wav"
    soundfile.write(clip, recording(4.0, 16_000, voices=1), 16_000)
    sayer = Sayer(SayerSettings(address, None, [str(clip)]))
    text = " ".join(SENTENCES.read_text(encoding="utf-8").splitlines()[:10])
    # The folder is kept, and so exists, as long as the function is.
    return lambda: say(text, Path(folder.name) / "said.wav", sayer=sayer).duration_seconds


def _hearing(room: str, model: Any, seconds: float) -> Work:
    rate = int(model.config.sample_rate)
    waveform = recording(seconds, rate)
    heard = torch.from_numpy(waveform)
    windows = heard.view(-1, WINDOW_SECONDS * rate)
    tasks: dict[str, Callable[[], object]] = {
        "separation": lambda: separate_waveform(waveform, model, sample_rate=rate, config=LongConfig()),
        "quality": lambda: predict_long(model, heard, torch.stack((heard, heard.roll(1)))),
        "recognition": lambda: transcribe_waveform([waveform], model),
        "speaker": lambda: model.embed(windows),
        "classification": lambda: model.predict_proba(windows),
        "crossmodal": lambda: model.embed_audio(windows),
    }

    def work() -> float:
        with torch.inference_mode():
            tasks[room]()
        return seconds

    return work


@dataclass(frozen=True)
class Speed:
    """What a model does in a second: the median of the repeats, the slowest and the fastest, and in which unit."""

    median: float
    slowest: float
    fastest: float
    unit: str


def speed(address: str, seconds: float = 60.0, repeats: int = 3) -> Speed | None:
    """Measure a model with as many threads as torch takes; None for what hears nothing."""
    found = work_of(address, seconds)
    if found is None:
        return None
    work, unit = found
    # The first run allocates memory and warms the caches.
    work()
    speeds = []
    for _ in range(repeats):
        began = time.perf_counter()
        done = work()
        speeds.append(done / (time.perf_counter() - began))
    return Speed(statistics.median(speeds), min(speeds), max(speeds), unit)


def main() -> None:
    """Measure the models of the command line, or all that ship."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the recording, a multiple of 5")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads, {arguments.seconds:g} s of sound, {arguments.repeats} repeats")
    print("| model | in a second | slowest | fastest |")
    print("|---|---|---|---|")
    for address in arguments.models or [model.address for model in list_shipped()]:
        found = speed(address, arguments.seconds, arguments.repeats)
        if found is not None:
            told = " | ".join(f"{value:.1f} {found.unit}" for value in (found.median, found.slowest, found.fastest))
            print(f"| {address} | {told} |", flush=True)


if __name__ == "__main__":
    main()
