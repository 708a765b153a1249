"""Measure the diarization error on ten-minute conversations made of real utterances of two to four unseen speakers.

No collar, overlaps scored, the number of speakers counted. ``--prepared manifests/ami`` takes the meetings of a
prepared corpus instead. ``--model fingerprint`` takes the statistics of spectra that join tracks (no network) for the
embedding; ``--threshold`` and ``--method`` may be repeated, to choose on ``--split valid``. Needs the real data in
AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from auriscope.data.conversations import ConversationConfig, Conversations
from auriscope.data.prepared_meetings import read_meetings
from auriscope.metrics.der import DiarizationErrors, diarization_error_interval, diarization_errors
from auriscope.pretrained import load
from auriscope.recognition.voice import find_voice
from auriscope.separation.fingerprint import SpectralFingerprint
from auriscope.separation.long import LongConfig, separate_stream
from auriscope.signal.files import read
from auriscope.signal.turns import SpeakerTurn
from auriscope.speaker.clustering import ClusteringConfig
from auriscope.speaker.diarization import DiarizationConfig, Embed, FloatArray, Span, diarize, embed_with
from auriscope.verbs.defaults import DEFAULT_EMBEDDER
from auriscope.verbs.diarizer import TURN_VOICE, beside

RATE = 16_000


def embedding(address: str) -> Embed:
    """Give the embedding at an address."""
    if address != "fingerprint":
        return remembered(embed_with(load(address).eval()))
    fingerprint = SpectralFingerprint()
    return remembered(lambda waveforms: np.stack([fingerprint(waveform, RATE) for waveform in waveforms]))


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


@dataclass(frozen=True)
class Recording:
    """A recording, (time,) at ``RATE`` Hz, and who speaks in it when."""

    waveform: FloatArray
    turns: tuple[SpeakerTurn, ...]

    @property
    def num_speakers(self) -> int:
        """How many people speak."""
        return len({turn.speaker for turn in self.turns})

    @property
    def overlap_share(self) -> float:
        """The share of all speech that is by those who begin while another speaks, or go on then."""
        anybody = diarization_errors([turn._replace(speaker="x") for turn in self.turns], self.turns)
        return anybody.missed_seconds / max(anybody.total_seconds, 1e-9)


def recordings(prepared: str | None, split: str, number: int | None, seconds: float) -> Iterator[Recording]:
    """Give conversations, or the meetings of a prepared corpus."""
    if prepared is not None:
        corpus = read_meetings(prepared)
        for meeting in corpus.split(split)[:number]:
            yield Recording(read(corpus.root / meeting.path, sample_rate=RATE)[0], meeting.turns)
        return
    conversations = Conversations(ConversationConfig(seconds=seconds, sample_rate=RATE), split)
    for index in range(number or 9):
        conversation = conversations[index]
        yield Recording(conversation.waveform, conversation.turns)


def sounds(waveform: FloatArray, separator: str | None) -> list[FloatArray]:
    """The recording, (1, time), or with its streams beside it, (1 + streams, time)."""
    if separator is None:
        return [waveform[None]]
    model = load(separator).eval()
    blocks: Iterator[FloatArray] = iter(np.array_split(waveform, len(waveform) // 65_536 + 1))
    return list(beside(blocks, lambda sound: separate_stream(sound, model, sample_rate=RATE, config=LongConfig())))


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
    parser.add_argument("--prepared", help="folder that auriscope prepare wrote of a corpus of meetings")
    parser.add_argument("--split", default="test", choices=("valid", "test"))
    parser.add_argument("--recordings", type=int, help="so many; 9 conversations, or all meetings")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the conversations")
    parser.add_argument("--method", action="append", choices=("spectral", "agglomerative"))
    parser.add_argument("--threshold", action="append", type=float, help="cosine from which two voices are one")
    arguments = parser.parse_args()

    embed = embedding(arguments.model)
    made: list[tuple[Recording, list[Span], list[FloatArray]]] = []
    speech: list[DiarizationErrors] = []
    seconds, duration = 0.0, 0.0
    for recording in recordings(arguments.prepared, arguments.split, arguments.recordings, 60.0 * arguments.minutes):
        before = time.perf_counter()
        spans = list(find_voice([recording.waveform], RATE, TURN_VOICE))
        made.append((recording, spans, sounds(recording.waveform, arguments.separator)))
        seconds += time.perf_counter() - before
        duration += len(recording.waveform) / RATE
        anybody = [SpeakerTurn("anybody", begin / RATE, end / RATE) for begin, end in spans]
        speech.append(diarization_errors(anybody, [turn._replace(speaker="anybody") for turn in recording.turns]))
    total = sum(speech[1:], speech[0])
    overlap = np.mean([recording.overlap_share for recording, _, _ in made])
    print(
        f"{len(made)} recordings, {duration / 60:.0f} min ({arguments.split}): {total.total_seconds:.0f} s of speech, "
        f"{100 * overlap:.1f} % more by a second speaker; speech found or not: "
        f"missed {100 * total.missed_seconds / total.total_seconds:.1f} %, "
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
                for recording, spans, blocks in made:
                    number = recording.num_speakers if given else None
                    result = diarize(blocks, spans, embed, sample_rate=RATE, num_speakers=number, config=settings)
                    errors.append(diarization_errors(result.turns, recording.turns))
                    found.append((result.num_speakers, recording.num_speakers))
                if first:
                    seconds += time.perf_counter() - before
                    first = False
                counted = "number given  " if given else "number counted"
                print(f"{arguments.model} {method} {threshold:g}, {counted}: {told(errors, found)}", flush=True)
    print(f"{duration / seconds:.0f} s of sound per second, one recording at a time")


if __name__ == "__main__":
    main()
