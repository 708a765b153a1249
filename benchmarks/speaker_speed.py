"""ECAPA-TDNN with the same weights, ours beside SpeechBrain's: from the waveform to the embedding on a CPU.

    .venv/bin/python benchmarks/speaker_speed.py [--seconds 4 30] [--repeats 5] [--threads 1]

The network is that of spkrec-ecapa-voxceleb, 20.77 million parameters, with random weights. Each side is a process of
its own, and the two take turns, so that whatever else the machine does falls on both. Two times are printed, medians
over the repeats: the processor's, summed over threads, which other work on the machine hardly touches, and the clock's.
SpeechBrain runs in the peers' environment (benchmarks/peers.sh, or AURISCOPE_PEERS_PYTHON).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE_RATE = 16_000
SIZES = {"channels": 1024, "aggregated_channels": 3072}
# Short recordings pass several times, so that what the first pass costs does not decide.
PASSES_SECONDS = 60.0


def peers_python() -> Path:
    default = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
    return Path(os.environ.get("AURISCOPE_PEERS_PYTHON", default))


def original():
    """In the peers' environment: features, their mean taken off, and the network."""
    import warnings

    warnings.simplefilter("ignore")
    import torch
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
    from speechbrain.processing.features import InputNormalization

    torch.manual_seed(0)
    channels = [*[SIZES["channels"]] * 4, SIZES["aggregated_channels"]]
    return Fbank(n_mels=80), InputNormalization(norm_type="sentence", std_norm=False), ECAPA_TDNN(80, channels=channels)


def build(side: str, folder: Path):
    """The side's function from waveforms (1, time) to embeddings (1, 192)."""
    import torch

    if side == "ours":
        from auriscope.pretrained.foreign import read_state_dict
        from auriscope.speaker.interop import from_ecapa

        return from_ecapa(read_state_dict(folder / "weights.pt"), SIZES).build()
    features, norm, network = original()
    network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    network.eval()

    def embed(waveform):
        lengths = torch.ones(len(waveform))
        return network(norm(features(waveform), lengths), lengths)[:, 0]

    return embed


def measure(side: str, folder: Path, options: argparse.Namespace) -> None:
    """In either environment: time every duration."""
    import time

    import torch

    torch.set_num_threads(options.threads)
    embed = build(side, folder)
    torch.manual_seed(0)
    found = {}
    with torch.no_grad():
        for seconds in options.seconds:
            waveform = 0.1 * torch.randn(1, int(seconds * SAMPLE_RATE))
            embedding = embed(waveform)
            rows = []
            for _ in range(max(2, round(PASSES_SECONDS / seconds))):
                wall, processor = time.perf_counter(), time.process_time()
                embed(waveform)
                rows.append((time.process_time() - processor, time.perf_counter() - wall))
            found[f"{seconds:g} s"] = [statistics.median(column) for column in zip(*rows, strict=True)]
            torch.save(embedding, folder / f"{side}-{seconds:g}.pt")
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[4.0, 30.0], help="lengths of the recordings")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "weights":
        import torch

        torch.save(original()[2].state_dict(), options.folder / "weights.pt")
    elif options.role:
        measure(options.role, options.folder, options)
    else:
        if not peers_python().exists():
            sys.exit("there is no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
        compare(options)


def compare(options: argparse.Namespace) -> None:
    pythons = {"ours": Path(sys.executable), "peer": peers_python()}
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryDirectory() as folder:

        def run(python: Path, role: str) -> str:
            arguments = ["--role", role, "--folder", folder, "--threads", str(options.threads)]
            arguments += ["--seconds", *map(str, options.seconds)]
            finished = subprocess.run(
                [python, __file__, *arguments], stdout=subprocess.PIPE, text=True, env=environment, check=False
            )
            if finished.returncode:
                sys.exit(f"{role} failed, see above")
            return finished.stdout

        run(pythons["peer"], "weights")
        rows: dict[str, list[dict[str, list[float]]]] = {"ours": [], "peer": []}
        for turn in range(options.repeats):
            for side in ("ours", "peer") if turn % 2 == 0 else ("peer", "ours"):
                rows[side].append(json.loads(run(pythons[side], side).splitlines()[-1]))
        import torch

        print(f"{options.threads} thread(s), medians of {options.repeats}; ratio: ours over SpeechBrain's")
        print(f"{'recording':12}{'time':12}{'ours':>10}{'peer':>10}{'ratio':>8}   largest difference of embeddings")
        for seconds in options.seconds:
            found = [torch.load(Path(folder) / f"{side}-{seconds:g}.pt", weights_only=True) for side in rows]
            difference = f"{(found[0] - found[1]).abs().max().item():.1e} of {found[1].abs().max().item():.2g}"
            for column, kind in enumerate(("processor", "clock")):
                what = f"{seconds:g} s"
                mine, theirs = (statistics.median(row[what][column] for row in rows[side]) for side in rows)
                print(f"{what:12}{kind:12}{mine:9.3f}s{theirs:9.3f}s{mine / theirs:8.3f}   {difference}", flush=True)
                difference = ""


if __name__ == "__main__":
    main()
