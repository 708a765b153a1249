"""Tacotron 2, ours beside SpeechBrain's: the same weights and the same frames.

    .venv/bin/python benchmarks/tacotron2_speed.py [--tokens 80] [--frames 400] [--batch 1] [--repeats 5] [--threads 1]
        [--training-batch 8]

The network is that of SpeechBrain's tts-tacotron2-ljspeech (28.2 M parameters) with random weights and a stop token
that never comes, so that both speak the same frames: 400 are 4.6 s. The prenet's dropout is left out for the comparison
of what both say, and takes part in what is timed. A training step is the forward pass, the squared error of both mels,
and the gradients. Both run in the peers' environment (benchmarks/peers.sh, or AURISCOPE_PEERS_PYTHON), in one process,
and take turns; the time is the processor's, the median of the repeats.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def peers_python() -> Path:
    return Path(os.environ.get("AURISCOPE_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))


def both(options: argparse.Namespace):
    """SpeechBrain's network, and ours with its weights."""
    import torch
    from speechbrain.lobes.models.Tacotron2 import Tacotron2 as Original

    from auriscope.pretrained.foreign import Foreign, rename
    from auriscope.synthesis.interop.tacotron2 import RENAMES, symbols

    torch.manual_seed(0)
    original = Original(max_decoder_steps=options.frames)
    original.decoder.gate_layer.linear_layer.bias.data.fill_(-20.0)
    config = {"tokens": symbols(), "eos_id": None}
    ours = Foreign("synthesis/tacotron2", config, rename(original.state_dict(), RENAMES)).build()
    return original, ours


def measure(options: argparse.Namespace) -> None:
    """In the peers' environment: both in turns."""
    import torch

    torch.set_num_threads(options.threads)
    original, ours = both(options)
    tokens = torch.randint(1, 60, (options.batch, options.tokens))
    lengths = torch.full((options.batch,), options.tokens)
    seconds = (options.frames + 0.5) * ours.config.mel.frame_seconds

    def say_original():
        with torch.no_grad():
            return original.infer(tokens, lengths)[0].mT

    def say_ours():
        return ours.generate(tokens, lengths, max_seconds=seconds).mel

    dropout = original.decoder.prenet.dropout
    original.eval()
    original.decoder.prenet.dropout = ours.prenet.dropout = 0.0
    difference = float((say_original() - say_ours()).abs().max())
    original.decoder.prenet.dropout = ours.prenet.dropout = dropout
    spoken = options.frames * ours.config.mel.frame_seconds * options.batch
    print(f"largest difference of what both say: {difference:.1e}")
    _compare("speaking", options, say_original, say_ours, spoken)

    batch, frames = options.training_batch, options.frames
    texts = torch.randint(1, 60, (batch, options.tokens))
    text_lengths, frame_lengths = torch.full((batch,), options.tokens), torch.full((batch,), frames)
    mel = torch.randn(batch, 80, frames)

    def learn_original():
        original.train()
        written, refined, _, _ = original((texts, text_lengths, mel, None, frame_lengths))
        (((written - mel) ** 2).mean() + ((refined - mel) ** 2).mean()).backward()

    def learn_ours():
        ours.train()
        spoken = ours(texts, text_lengths, mel.mT, frame_lengths)
        (((spoken.mel - mel.mT) ** 2).mean() + ((spoken.refined - mel.mT) ** 2).mean()).backward()

    _compare("a training step", options, learn_original, learn_ours, frames * ours.config.mel.frame_seconds * batch)


def _compare(what: str, options: argparse.Namespace, theirs, ours, spoken_seconds: float) -> None:
    spent: dict[str, list[float]] = {"theirs": [], "ours": []}
    for _ in range(options.repeats):
        for name, run in (("theirs", theirs), ("ours", ours)):
            before = time.process_time()
            run()
            spent[name].append(time.process_time() - before)
    medians = {name: statistics.median(each) for name, each in spent.items()}
    ours_seconds, theirs_seconds = medians["ours"], medians["theirs"]
    print(
        f"{what}: SpeechBrain {theirs_seconds:.2f} s, ours {ours_seconds:.2f} s, "
        f"ratio {ours_seconds / theirs_seconds:.2f}; ours: {spoken_seconds / ours_seconds:.1f} s of speech per second"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--training-batch", type=int, default=8)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        measure(options)
        return
    if not peers_python().exists():
        sys.exit("no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [str(peers_python()), __file__, "--inside", *sys.argv[1:]]
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
