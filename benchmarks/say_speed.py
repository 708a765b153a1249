"""How fast ``say`` speaks: seconds of speech in a second of work, and how long the first sentence takes.

    python benchmarks/say_speed.py [MODEL] [--vocoder ADDRESS] [--voice CLIP] [--threads 2] [--batch-size 1 4]

Speaks the first Harvard sentences (IEEE, 1969), with all that ``say`` does: the models are loaded before, and every
batch size is measured on the same sentences, after one that warms up. Sentences whose attention fails are said again,
as users would have it, and the time of that counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from auriscope.synthesis.speaking import SpeakConfig
from auriscope.verbs.say import SaidSentence, say
from auriscope.verbs.sayer import Sayer, SayerSettings

SENTENCES = Path(__file__).parent / "harvard_sentences.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--vocoder")
    parser.add_argument("--voice", action="append", default=[])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--tries", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    text = " ".join(SENTENCES.read_text(encoding="utf-8").splitlines()[: arguments.sentences])
    config = SpeakConfig(keep_failed=True, max_tries=arguments.tries)
    settings = SayerSettings(arguments.model, arguments.vocoder, arguments.voice, config=config)
    sayer = Sayer(settings)
    print(f"{sayer.address} with {sayer.vocoder_address}, {arguments.threads} threads, {sayer.sample_rate} Hz")
    with tempfile.TemporaryDirectory() as folder:
        say("One to warm up.", Path(folder) / "warm.wav", sayer=sayer)
        for size in arguments.batch_size:
            sayer.config = dataclasses.replace(sayer.config, batch_size=size)
            first: list[float] = []

            def arrived(_: SaidSentence, __: float, first: list[float] = first) -> None:
                first.append(perf_counter())

            begun = perf_counter()
            result = say(text, Path(folder) / "speech.wav", sayer=sayer, on_sentence=arrived)
            taken = perf_counter() - begun
            failed = sum(not sentence.attention_ok for sentence in result.sentences)
            tries = sum(sentence.num_tries for sentence in result.sentences)
            print(
                f"batches of {size}: {result.duration_seconds / taken:.2f} s of speech per second "
                f"({result.duration_seconds:.1f} s in {taken:.1f} s), the first sentence after "
                f"{first[0] - begun:.2f} s, {tries} tries of {len(result.sentences)} sentences, "
                f"{failed} failed"
            )


if __name__ == "__main__":
    main()
