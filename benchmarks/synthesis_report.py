"""How good a shipped voice is: its attention on 50 unseen sentences, and what a recogniser hears.

    AURISCOPE_CORPORA=… python benchmarks/synthesis_report.py [MODEL] --corpus ljspeech_1spk [--out FOLDER]

First the 50 Harvard sentences (IEEE, 1969), which no training text holds: the share whose attention goes through the
text once, monotonic and complete, at the first try and in the end. Then the sentences of a corpus' split, ``test`` by
default, which the voice's training has not seen: the character error of a recogniser on the synthetic speech, and on
the real recordings of the same sentences, and the difference with a 95 % interval, sentences resampled. With --out the
pages are kept: ``harvard/report.html`` and ``corpus/report.html``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from auriscope.data.corpora import utterances
from auriscope.metrics.accumulate import summarize
from auriscope.verbs.sayer import Sayer, SayerSettings
from auriscope.verbs.speech_report import Prompt, SpeechReport, speech_report, voice_reader_of
from auriscope.verbs.transcriber import Transcriber, TranscriberSettings

SENTENCES = Path(__file__).parent / "harvard_sentences.txt"


def told(report: SpeechReport) -> str:
    error = report.character_errors
    heard = "" if error is None else f", character error {100 * error.rate:.1f} %"
    return (
        f"{len(report.items)} sentences: attention in order {100 * report.attention_share:.0f} % "
        f"(at the first try {100 * report.first_try_share:.0f} %){heard}, {report.speed:.1f} s of speech per second"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--vocoder")
    parser.add_argument("--voice", action="append", default=[])
    parser.add_argument("--recognizer")
    parser.add_argument("--corpus", default="ljspeech_1spk")
    parser.add_argument("--split", default="test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sayer = Sayer(SayerSettings(arguments.model, arguments.vocoder, arguments.voice))
    transcriber = Transcriber(TranscriberSettings(arguments.recognizer))
    voices = voice_reader_of(sayer)
    print(f"{sayer.address} with {sayer.vocoder_address}, heard by {transcriber.address}")
    with tempfile.TemporaryDirectory() as aside:
        out = arguments.out or Path(aside)
        out.mkdir(parents=True, exist_ok=True)
        harvard = [Prompt(line) for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
        report = speech_report(harvard, out / "harvard", sayer=sayer, transcriber=transcriber, voices=voices)
        print(f"Harvard: {told(report)}")
        spoken = [each for each in utterances(arguments.corpus, arguments.split) if each.text]
        prompts = [Prompt(each.text or "", each.path) for each in spoken]
        report = speech_report(prompts, out / "corpus", sayer=sayer, transcriber=transcriber, voices=voices)
        print(f"{arguments.corpus}, {arguments.split}: {told(report)}")
        made, real = report.character_errors, report.recording_character_errors
        if made is not None and real is not None:
            apart = summarize(100 * (made.rates - real.rates))
            print(
                f"  character error: synthetic {100 * made.rate:.1f} %, real {100 * real.rate:.1f} %; "
                f"difference {100 * (made.rate - real.rate):+.1f} points "
                f"(mean over sentences {apart.mean:+.1f}, {apart.low:+.1f} to {apart.high:+.1f})"
            )
        if report.similarity is not None:
            print(f"  likeness {report.similarity:.3f}; the real voice with itself {report.recording_similarity:.3f}")


if __name__ == "__main__":
    main()
