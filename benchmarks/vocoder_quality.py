"""Recordings to mels and back to sound: wide-band PESQ, and the distance of its mels from those it was made of.

    .venv/bin/python benchmarks/vocoder_quality.py [--corpus ljspeech_1spk] [--split test] [--items 10] [MODEL …]

A row for Griffin-Lim of 1984, with momentum, and with more rounds, at 16 kHz, and for each vocoder of the command line,
over the first items of a split, five seconds of each. PESQ hears at 16 kHz.
"""

from __future__ import annotations

import argparse
from statistics import fmean

import numpy as np
import torch
from pesq import pesq

from auriscope.data.transcribed import spoken_set
from auriscope.pretrained import load
from auriscope.signal import MEL_16K, resample, speech_mel
from auriscope.synthesis import GriffinLim, GriffinLimConfig, Vocoder

MAX_SECONDS = 5


def row(vocoder: Vocoder, recordings: list[np.ndarray], sample_rate: int) -> str:
    config = vocoder.config.mel
    scores, distances = [], []
    for recording in recordings:
        waveform = torch.from_numpy(recording)[None]
        mel = speech_mel(waveform, config)
        with torch.no_grad():
            made = vocoder(mel)
        again = speech_mel(made, config)[:, : mel.shape[1]]
        distances.append((again - mel).abs().mean().item())
        heard = (
            resample(signal[..., : waveform.shape[1]], sample_rate, 16_000)[0].numpy() for signal in (waveform, made)
        )
        scores.append(pesq(16_000, *heard, "wb"))
    return f"{fmean(scores):.2f} | {fmean(distances):.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="addresses of vocoders")
    parser.add_argument("--corpus", default="ljspeech_1spk")
    parser.add_argument("--split", default="test")
    parser.add_argument("--items", type=int, default=10)
    options = parser.parse_args()
    vocoders: dict[str, Vocoder] = {}
    for num_iterations, momentum in ((60, 0.0), (60, 0.99), (200, 0.99)):
        config = GriffinLimConfig(mel=MEL_16K, num_iterations=num_iterations, momentum=momentum)
        vocoders[f"Griffin-Lim, {num_iterations} rounds, momentum {momentum:g}"] = GriffinLim(config)
    vocoders |= {address: load(address) for address in options.models}
    print(f"{options.corpus}, {options.split}, {options.items} items")
    print("| vocoder | PESQ | distance of the mels |")
    print("|---|---|---|")
    for name, vocoder in vocoders.items():
        rate = vocoder.config.mel.sample_rate
        spoken = spoken_set(options.corpus, options.split, sample_rate=rate, max_items=options.items)
        recordings = [item.waveform[: MAX_SECONDS * rate] for item in spoken]
        print(f"| {name} | {row(vocoder, recordings, rate)}", flush=True)


if __name__ == "__main__":
    main()
