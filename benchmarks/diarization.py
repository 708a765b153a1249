"""Measure the diarization error on ten-minute conversations made of real utterances of two to four unseen speakers.

No collar, overlaps scored, the number of speakers counted. ``--model fingerprint`` takes the statistics of spectra that
join tracks (no network) for the embedding; ``--threshold`` and ``--method`` may be repeated, to choose on ``--split
valid``. Needs the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from auriscope.data.conversations import Conversation, ConversationConfig, Conversations
from auriscope.metrics.der import DiarizationErrors, diarization_error_interval, diarization_errors
from auriscope.pretrained import load
from auriscope.recognition.voice import find_voice
from auriscope.separation.fingerprint import SpectralFingerprint
from auriscope.separation.long import LongConfig, separate_stream
from auriscope.speaker.clustering import ClusteringConfig
from auriscope.speaker.diarization import DiarizationConfig, Embed, FloatArray, Span, diarize, embed_with
from auriscope.verbs.defaults import DEFAULT_EMBEDDER
from auriscope.verbs.diarizer import TURN_VOICE, beside


def embedding(address: str, sample_rate: int) -> Embed:
    """Give the embedding at an address."""
    if address != "fingerprint":
        return remembered(embed_with(load(address).eval()))
    fingerprint = SpectralFingerprint()
    return remembered(lambda waveforms: np.stack([fingerprint(waveform, sample_rate) for waveform in waveforms]))


def remembered(embed: Embed) -> Embed:
    """Embed the same sound only once, whatever the settings that are tried."""
    known: dict[bytes, np.ndarray] = {}

    def embed_new(waveforms: list[FloatArray]) -> np.ndarray:
        keys = [waveform.tobytes()[:4096] + waveform.tobytes()[-4096:] for waveform in waveforms]
        new = [number for number, key in enumerate(keys) if key not in known]
        if new:
            for number, found in zip(new, embed([waveforms[number] for number in new]), strict=True):
                known[keys[number]] = np.asarray(found)
        return np.stack([known[key] for key in keys])

    return embed_new


def sounds(conversation: Conversation, separator: str | None) -> list[FloatArray]:
    """The recording, (1, time), or with its streams beside it, (1 + streams, time)."""
    waveform, rate = conversation.waveform, conversation.sample_rate
    if separator is None:
        return [waveform[None]]
    model = load(separator).eval()
    blocks: Iterator[FloatArray] = iter(np.array_split(waveform, len(waveform) // 65_536 + 1))
    return list(beside(blocks, lambda sound: separate_stream(sound, model, sample_rate=rate, config=LongConfig())))


def told(errors: list[DiarizationErrors], found: list[tuple[int, int]]) -> str:
    """One row of the table."""
    total = sum(errors[1:], errors[0])
    parts = [total.missed_seconds, total.false_alarm_seconds, total.confusion_seconds]
    percents = " + ".join(f"{100 * part / total.total_seconds:.1f}" for part in parts)
    interval = diarization_error_interval(errors)
    right = sum(number == truth for number, truth in found)
    low, high = 100 * (interval.low or 0.0), 100 * (interval.high or 0.0)
    return (
        f"{100 * total.rate:5.1f} % [{low:.1f}, {high:.1f}] = missed + false alarm + confusion {percents}; "
        f"number of speakers right in {right} of {len(found)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_EMBEDDER, help="address of a speaker model, or fingerprint")
    parser.add_argument("--separator", help="address of a separation model, for two at once")
    parser.add_argument("--split", default="test", choices=("valid", "test"))
    parser.add_argument("--recordings", type=int, default=9)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--method", action="append", choices=("spectral", "agglomerative"))
    parser.add_argument("--threshold", action="append", type=float, help="cosine from which two voices are one")
    arguments = parser.parse_args()

    config = ConversationConfig(seconds=60.0 * arguments.minutes)
    conversations = Conversations(config, arguments.split)
    embed = embedding(arguments.model, config.sample_rate)
    made: list[tuple[Conversation, list[Span], list[FloatArray]]] = []
    speech: list[DiarizationErrors] = []
    seconds = 0.0
    for index in range(arguments.recordings):
        conversation = conversations[index]
        before = time.perf_counter()
        spans = list(find_voice([conversation.waveform], config.sample_rate, TURN_VOICE))
        made.append((conversation, spans, sounds(conversation, arguments.separator)))
        seconds += time.perf_counter() - before
        truth = [turn._replace(speaker="anybody") for turn in conversation.turns]
        rate = config.sample_rate
        anybody = [truth[0]._replace(start_seconds=begin / rate, end_seconds=end / rate) for begin, end in spans]
        speech.append(diarization_errors(anybody, truth))
    total = sum(speech[1:], speech[0])
    overlap = sum(conversation.overlap_seconds for conversation, _, _ in made)
    print(
        f"{arguments.recordings} recordings of {arguments.minutes:g} min ({arguments.split}): "
        f"{total.total_seconds:.0f} s of speech, {100 * overlap / total.total_seconds:.1f} % of it by two at once; "
        f"speech found or not: missed {100 * total.missed_seconds / total.total_seconds:.1f} %, "
        f"false alarm {100 * total.false_alarm_seconds / total.total_seconds:.1f} %"
    )
    usual = ClusteringConfig()
    first = True
    for method in arguments.method or [usual.method]:
        for threshold in arguments.threshold or [usual.threshold]:
            for given in (False, True):
                settings = DiarizationConfig(clustering=ClusteringConfig(method, threshold))
                errors, found = [], []
                before = time.perf_counter()
                for conversation, spans, blocks in made:
                    number = len(conversation.speakers)
                    result = diarize(
                        blocks,
                        spans,
                        embed,
                        sample_rate=config.sample_rate,
                        num_speakers=number if given else None,
                        config=settings,
                    )
                    errors.append(diarization_errors(result.turns, conversation.turns))
                    found.append((result.num_speakers, number))
                if first:
                    seconds += time.perf_counter() - before
                    first = False
                counted = "number given  " if given else "number counted"
                print(f"{arguments.model} {method} {threshold:g}, {counted}: {told(errors, found)}", flush=True)
    print(
        f"{60 * arguments.minutes * arguments.recordings / seconds:.0f} s of sound per second, one recording at a time"
    )


if __name__ == "__main__":
    main()
