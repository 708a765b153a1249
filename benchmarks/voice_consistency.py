"""Voices that a model has never heard: is the speech like them, and does it matter which clip of them it was given?

    AURISCOPE_CORPORA=… python benchmarks/voice_consistency.py [MODEL] [--corpus libri_eval50_flac] [--speakers 21]

From the unseen speakers of a split, each utterance is cut into two halves: two clips of a voice. The model says a few
sentences from either. The speech from one half is compared, by a speaker model, with the other half, and with the other
halves of all other speakers: the share that is more like its own voice than like any of the 20 others. Then the speech
from the two halves of one speaker is compared with each other, and with that of other speakers, which tells how much
the clip matters. The same is said of the real halves, which is the most that can be hoped for.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from auriscope.data.corpora import utterances
from auriscope.metrics.voices import clip_consistency, likeness
from auriscope.signal.files import read, write
from auriscope.synthesis.speaking import SpeakConfig
from auriscope.verbs.sayer import Sayer, SayerSettings
from auriscope.verbs.speech_report import voice_reader_of

SENTENCES = Path(__file__).parent / "harvard_sentences.txt"


def halves(corpus: str, split: str, num_speakers: int, folder: Path) -> list[tuple[Path, Path]]:
    """Cut the longest utterance of each speaker in two, and write both as files."""
    longest = {}
    for each in utterances(corpus, split, min_seconds=4.0):
        if each.speaker not in longest or each.duration_seconds > longest[each.speaker].duration_seconds:
            longest[each.speaker] = each
    found = []
    for number, speaker in enumerate(sorted(longest)[:num_speakers]):
        waveform, rate = read(longest[speaker].path)
        middle = len(waveform) // 2
        paths = folder / f"{number}-a.wav", folder / f"{number}-b.wav"
        for path, half in zip(paths, (waveform[:middle], waveform[middle:]), strict=True):
            write(path, half, rate)
        found.append(paths)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--vocoder")
    parser.add_argument("--corpus", default="libri_eval50_flac")
    parser.add_argument("--split", default="test")
    parser.add_argument("--speakers", type=int, default=21)
    parser.add_argument("--sentences", type=int, default=2)
    parser.add_argument("--tries", type=int, default=4)
    parser.add_argument("--as-made", action="store_true", help="leave bands as the synthesiser makes them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print the scores as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()[: arguments.sentences]
    with tempfile.TemporaryDirectory() as aside:
        clips = halves(arguments.corpus, arguments.split, arguments.speakers, Path(aside))
        config = SpeakConfig(keep_failed=True, max_tries=arguments.tries, match_bands=not arguments.as_made)
        sayer = Sayer(SayerSettings(arguments.model, arguments.vocoder, clips[0][0], config=config))
        reader = voice_reader_of(sayer)
        if reader is None:
            parser.error("the model does not say which speaker model its voices are of, and none ships")
        print(f"{sayer.address} with {sayer.vocoder_address}, {len(clips)} speakers, judged by {reader.address}")
        real = np.stack([[reader.read(half).embedding for half in pair] for pair in clips])
        spoken = np.zeros_like(real)
        failed = 0
        for number, pair in enumerate(clips):
            for half, clip in enumerate(pair):
                sayer.use_voice([clip])
                sentences = [sentence for text in texts for sentence in sayer.prepare(text).sentences]
                said = list(sayer.speak(sentences))
                failed += sum(not each.ok for each in said)
                path = Path(aside) / "speech.wav"
                write(path, np.concatenate([each.waveform for each in said]), sayer.sample_rate)
                spoken[number, half] = reader.read(path).embedding
    labels = np.arange(len(clips))
    # Speech from the first halves is compared with the second halves, and the other way round.
    crossed = [likeness(spoken[:, half], real[:, 1 - half], list(labels)) for half in (0, 1)]
    best = [likeness(real[:, half], real[:, 1 - half], list(labels)) for half in (0, 1)]
    print(f"failed sentences: {failed} of {len(clips) * 2 * len(texts)}")
    for name, found in (("speech", crossed), ("real halves", best)):
        share, own, others = (
            np.mean([getattr(each, field) for each in found]) for field in ("share", "target", "others")
        )
        print(
            f"{name}: more like its own voice than any other {100 * share:.0f} %; score {own:.3f}, others {others:.3f}"
        )
    doubled = list(np.repeat(labels, 2))
    for name, embeddings in (("speech", spoken), ("real halves", real)):
        same = clip_consistency(embeddings.reshape(len(doubled), -1), doubled)
        print(
            f"{name}: two clips of one voice {same.same_voice.mean:.3f} ({same.same_voice.low:.3f} to "
            f"{same.same_voice.high:.3f}), of two voices {same.other_voice:.3f}"
        )
    if arguments.json:
        print(json.dumps([each.scores.round(4).tolist() for each in crossed]))


if __name__ == "__main__":
    main()
