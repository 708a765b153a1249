"""HiFi-GAN V1 beside SpeechBrain's with the same weights, and how fast and in how much memory vocoders speak.

    .venv/bin/python benchmarks/vocoder_speed.py [--seconds 4 30] [--repeats 5] [--minutes 10] [MODEL …]

First the processor time of either side for so many seconds of speech, on one thread, taking turns, medians of the
repeats, and the largest difference between the two waveforms. Then our peak resident memory over a minute and over
--minutes in one call of `stream`. Then a row for Griffin-Lim at 16 kHz and each vocoder of the command line: seconds of
speech for each second of one thread. The original runs in the peers' environment (benchmarks/peers.sh, or
AURISCOPE_PEERS_PYTHON).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

FRAMES_PER_SECOND = 22_050 / 256
SETTINGS = """
generator: !new:speechbrain.lobes.models.HifiGAN.HifiganGenerator
    in_channels: 80
    out_channels: 1
    resblock_type: "1"
    resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
    resblock_kernel_sizes: [3, 7, 11]
    upsample_kernel_sizes: [16, 16, 4, 4]
    upsample_initial_channel: 512
    upsample_factors: [8, 8, 2, 2]
modules:
    generator: !ref <generator>
"""


def peers_python() -> Path:
    default = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
    return Path(os.environ.get("AURISCOPE_PEERS_PYTHON", default))


def mels(seconds: float) -> torch.Tensor:
    return torch.randn(1, round(seconds * FRAMES_PER_SECOND), 80, generator=torch.Generator().manual_seed(0))


def write_weights(folder: Path) -> None:
    """In the peers' environment: make SpeechBrain's with random weights, in a folder as published."""
    from hyperpyyaml import load_hyperpyyaml

    torch.manual_seed(0)
    (folder / "hyperparams.yaml").write_text(SETTINGS)
    weights = dict(load_hyperpyyaml(SETTINGS)["generator"].state_dict())
    for name, value in weights.items():
        # As they come, random weights give a whisper, in which no difference would be seen.
        weights[name] = 1.75 * value if name.endswith("original0") else value
    torch.save(weights, folder / "generator.ckpt")


def theirs(folder: Path):
    """In the peers' environment: a function of mels, without weight normalisation, as their own inference does it."""
    from hyperpyyaml import load_hyperpyyaml

    generator = load_hyperpyyaml(SETTINGS)["generator"].eval()
    generator.load_state_dict(torch.load(folder / "generator.ckpt", weights_only=True))
    generator.remove_weight_norm()
    return lambda mel: generator.inference(mel.mT)[:, 0, 5 * 256 : -5 * 256]


def ours(folder: Path):
    from auriscope.pretrained import load

    return load(folder)


def measure(role: str, options: argparse.Namespace) -> None:
    """In either environment: processor time and output for every duration."""
    import warnings

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    vocode = ours(options.folder) if role == "ours" else theirs(options.folder)
    found = {}
    with torch.no_grad():
        vocode(mels(1.0))
        for seconds in options.seconds:
            mel, times = mels(seconds), []
            for _ in range(max(1, round(8 / seconds))):
                began = time.process_time()
                waveform = vocode(mel)
                times.append(time.process_time() - began)
            found[f"{seconds:g} s"] = statistics.median(times)
            torch.save(waveform, options.folder / f"{role}-{seconds:g}.pt")
    print(json.dumps(found))


def measure_memory(options: argparse.Namespace) -> None:
    """Vocode so many minutes in pieces, and print this process's peak memory in MiB."""
    import resource

    torch.set_num_threads(1)
    vocoder = ours(options.folder)
    for _ in vocoder.stream(mels(60 * options.minutes)):
        pass
    print(json.dumps({"MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def run(python: str | Path, role: str, folder: Path, options: argparse.Namespace, minutes: float) -> dict[str, float]:
    command = [str(python), __file__, "--role", role, "--folder", str(folder), "--minutes", str(minutes)]
    command += ["--seconds", *map(str, options.seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1]) if finished.stdout else {}
    return found


def compare(options: argparse.Namespace, folder: Path) -> None:
    run(peers_python(), "weights", folder, options, 1)
    turns = [
        {
            "ours": run(sys.executable, "ours", folder, options, 1),
            "peer": run(peers_python(), "peer", folder, options, 1),
        }
        for _ in range(options.repeats)
    ]
    print("| HiFi-GAN V1 | ours, s | SpeechBrain's, s | ratio | largest difference | deviation of the sound |")
    print("|---|---|---|---|---|---|")
    for seconds in options.seconds:
        name = f"{seconds:g} s"
        mine, other = (statistics.median(turn[side][name] for turn in turns) for side in ("ours", "peer"))
        made, expected = (torch.load(folder / f"{side}-{seconds:g}.pt") for side in ("ours", "peer"))
        difference = (made - expected).abs().max().item()
        print(f"| {name} | {mine:.2f} | {other:.2f} | {mine / other:.3f} | {difference:.1e} | {expected.std():.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="addresses of vocoders to time")
    parser.add_argument("--seconds", type=float, nargs="+", default=[4.0, 30.0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the long speech, for memory; 0: leave out")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "weights":
        write_weights(options.folder)
    elif options.role == "memory":
        measure_memory(options)
    elif options.role:
        measure(options.role, options)
    else:
        if not peers_python().exists():
            sys.exit("there is no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
        with tempfile.TemporaryDirectory() as name:
            compare(options, Path(name))
            if options.minutes:
                short, long = (
                    run(sys.executable, "memory", Path(name), options, minutes)["MiB"]
                    for minutes in (1, options.minutes)
                )
                print(f"peak memory of {options.minutes:g} min: {long:.0f} MiB, of 1 min: {short:.0f} MiB")
        speeds(options.models)


def speeds(addresses: list[str]) -> None:
    """Print how fast vocoders speak ten seconds, on one thread."""
    from auriscope.pretrained import load
    from auriscope.signal.vocoding import MEL_16K
    from auriscope.synthesis import GriffinLim, GriffinLimConfig

    torch.set_num_threads(1)
    vocoders = {"Griffin-Lim, 16 kHz": GriffinLim(GriffinLimConfig(mel=MEL_16K))}
    vocoders |= {address: load(address) for address in addresses}
    for name, vocoder in vocoders.items():
        config = vocoder.config.mel
        mel = torch.randn(1, round(10 / config.frame_seconds), config.num_mels) - 5.0
        with torch.no_grad():
            vocoder(mel)
            began = time.process_time()
            vocoder(mel)
        print(f"{name}: {10 / (time.process_time() - began):.1f} s of speech a second")


if __name__ == "__main__":
    main()
