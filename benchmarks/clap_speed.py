"""Embedding recordings for an index beside transformers' CLAP: seconds of sound for each second of a processor.

    .venv/bin/python benchmarks/clap_speed.py [--minutes 2] [--repeats 3] [--batch 8] [MODEL …]

A recording of noise and tones of so many minutes, a file at 44.1 kHz, is read at each side's rate and embedded in
windows: by transformers' ClapFeatureExtractor and ClapModel of the published size (HTS-AT, 48 kHz, 10 s) with random
weights, windows in batches; by ours with the same weights; and by each MODEL, by default the shipped one, or the
network of recipes/crossmodal/clap-mini.yaml where none ships. Processor time on one thread, the sides taking turns,
medians of the repeats; and the largest difference between the embeddings of transformers and ours. Needs the extra hf.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
import torch

from auriscope.crossmodal import CLAP
from auriscope.errors import AuriscopeError
from auriscope.signal.files import AudioReader
from auriscope.text.bytelevel import BYTES
from auriscope.training.recipe import read_recipe
from auriscope.verbs.defaults import default_crossmodal
from auriscope.verbs.sounds import SoundReader

TOKENS = ("<s>", "<pad>", "</s>", "<unk>", *BYTES)
RECIPE = Path(__file__).parents[1] / "recipes" / "crossmodal" / "clap-mini.yaml"


def recording(path: Path, minutes: float) -> float:
    """Write noise whose level and tones that move, and give its length in seconds."""
    rate = 44_100
    moment = np.arange(round(60 * minutes * rate)) / rate
    generator = np.random.default_rng(0)
    sound = 0.2 * np.sin(2 * np.pi * 300 * moment * (1 + 0.1 * np.sin(0.3 * moment)))
    sound += generator.normal(size=len(moment)) * 0.05 * (1.1 + np.sin(2 * moment))
    soundfile.write(path, sound.clip(-1, 1), rate, subtype="PCM_16")
    return len(moment) / rate


def publish(folder: Path) -> None:
    """Write a CLAP of the published size with random weights, as LAION publishes them; what reads is small."""
    import json

    import transformers

    torch.manual_seed(0)
    text = {"vocab_size": len(TOKENS), "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    transformers.ClapModel(transformers.ClapConfig(text_config=text)).save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(TOKENS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def theirs(folder: Path, batch: int) -> Callable[[Path], np.ndarray]:
    """transformers' pipeline over consecutive windows of ten seconds."""
    import transformers

    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    model = transformers.ClapModel.from_pretrained(folder).eval()
    size = extractor.nb_max_samples

    def embed(path: Path) -> np.ndarray:
        parts = []
        with torch.inference_mode(), AudioReader(path, sample_rate=extractor.sampling_rate) as reader:
            for block in reader.blocks(size * batch):
                windows = [block[begin : begin + size] for begin in range(0, len(block), size)]
                told = extractor(windows, sampling_rate=extractor.sampling_rate, return_tensors="pt")
                parts.append(model.get_audio_features(told["input_features"].float()).pooler_output.numpy())
        return np.concatenate(parts)

    return embed


def ours(model: CLAP | Path | str) -> Callable[[Path], np.ndarray]:
    """What `auriscope index` does with a recording."""
    reader = SoundReader(model)
    return lambda path: reader.read(path).embedding


def small() -> dict[str, CLAP | str]:
    """The shipped model by its name, or its network where it does not ship."""
    try:
        return {default_crossmodal(): default_crossmodal()}
    except AuriscopeError:
        config = read_recipe(RECIPE).model.config
        return {"the network of clap-mini.yaml": CLAP.from_config(config)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="windows that transformers embeds at once")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name) / "clap", Path(name) / "recording.wav"
        seconds = recording(path, options.minutes)
        publish(folder)
        sides = {f"transformers, windows {options.batch} at once": theirs(folder, options.batch)}
        sides["ours, the same network and weights"] = ours(folder)
        models = {name: name for name in options.models} or small()
        sides |= {f"ours, {name}": ours(model) for name, model in models.items()}
        took: dict[str, list[float]] = {side: [] for side in sides}
        found: dict[str, np.ndarray] = {}
        for turn in range(options.repeats + 1):
            for side, embed in sides.items():
                began = time.process_time()
                found[side] = embed(path)
                if turn:  # the first turn makes buffers and kernels
                    took[side].append(time.process_time() - began)
    first, second, *_ = found.values()
    print("| embedded by | seconds of sound a second | over transformers |")
    print("|---|---|---|")
    base = statistics.median(next(iter(took.values())))
    for side, times in took.items():
        median = statistics.median(times)
        print(f"| {side} | {seconds / median:.1f} | {base / median:.1f}x |")
    print(f"largest difference between the embeddings of transformers and ours: {np.abs(first - second).max():.1e}")


if __name__ == "__main__":
    main()
