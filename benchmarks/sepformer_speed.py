"""SepFormer at the paper's size, the same weights: our time and peak memory against SpeechBrain's.

    .venv/bin/python benchmarks/sepformer_speed.py [--seconds 30] [--repeats 5] [--threads 2]

Each measurement is a process of its own, so that neither side's memory shows in the other's; the two sides take
turns, so that whatever else the machine does falls on both. Time is that of one forward pass without gradients,
after a short one to warm up; CPU time adds up the threads, which sleep while they wait, and is the
fairer figure on a busy machine; memory is the process's peak resident size, interpreter and libraries included, also
shown without what the process held before the first pass.
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

SAMPLE_RATE = 8000


def peers_python() -> Path:
    default = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
    return Path(os.environ.get("AURISCOPE_PEERS_PYTHON", default))


def write_weights(folder: Path) -> None:
    """In the peers' environment: make SpeechBrain's network with random weights and save it."""
    import torch
    from speechbrain.lobes.models.dual_path import SepformerWrapper

    torch.manual_seed(0)
    model = SepformerWrapper()
    parts = {part: dict(getattr(model, part).state_dict()) for part in ("encoder", "decoder", "masknet")}
    torch.save(parts, folder / "weights.pt")


def measure(side: str, folder: Path, seconds: float, threads: int) -> None:
    """In either environment: run one forward pass, print time and memory, and save the estimates."""
    import resource
    import time

    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    if side == "ours":
        from auriscope.separation import interop

        model = interop.from_speechbrain_sepformer(**interop.read_tensors(folder / "weights.pt")).build()
    else:
        from speechbrain.lobes.models.dual_path import SepformerWrapper

        model = SepformerWrapper().eval()
        for part, weights in torch.load(folder / "weights.pt", weights_only=True).items():
            getattr(model, part).load_state_dict(weights)
    torch.manual_seed(0)
    mixture = 0.1 * torch.randn(1, int(seconds * SAMPLE_RATE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model(mixture[:, :SAMPLE_RATE])
    start, cpu_start = time.perf_counter(), time.process_time()
    estimates = model(mixture)
    elapsed, cpu_elapsed = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.save(estimates if side == "ours" else estimates.transpose(1, 2).contiguous(), folder / f"{side}.pt")
    print(
        json.dumps(
            {
                "seconds": elapsed,
                "cpu_seconds": cpu_elapsed,
                "peak_mb": peak / 1024,
                "grown_mb": (peak - before) / 1024,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the mixture, at 8 kHz")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--role", choices=["weights", "ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "weights":
        write_weights(options.folder)
    elif options.role:
        measure(options.role, options.folder, options.seconds, options.threads)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    pythons = {"ours": Path(sys.executable), "peer": peers_python()}
    if not pythons["peer"].exists():
        sys.exit("there is no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
    with tempfile.TemporaryDirectory() as folder:
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ}

        def run(python: Path, role: str) -> str:
            arguments = ["--role", role, "--folder", folder]
            arguments += ["--seconds", str(options.seconds), "--threads", str(options.threads)]
            return subprocess.run(
                [python, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment
            ).stdout

        run(pythons["peer"], "weights")
        figures: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
        for turn in range(options.repeats):
            for side in ("ours", "peer") if turn % 2 == 0 else ("peer", "ours"):
                figures[side].append(json.loads(run(pythons[side], side).splitlines()[-1]))
                print(side, figures[side][-1], file=sys.stderr)
        import torch

        ours, peer = (torch.load(Path(folder) / f"{side}.pt", weights_only=True) for side in ("ours", "peer"))
        difference = (ours - peer).abs().max().item()
    medians = {
        side: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for side, rows in figures.items()
    }
    ratios = {key: medians["ours"][key] / medians["peer"][key] for key in medians["ours"]}
    if options.json:
        print(json.dumps({**medians, "ratios": ratios, "largest_difference": difference}))
        return
    print(f"SepFormer, {options.seconds:g} s at 8 kHz, {options.threads} threads, medians of {options.repeats}")
    print(f"{'':14}{'time (s)':>12}{'CPU (s)':>12}{'peak (MB)':>12}{'growth (MB)':>12}")
    for label, row in (("auriscope", medians["ours"]), ("SpeechBrain", medians["peer"]), ("ratio", ratios)):
        digits = 3 if label == "ratio" else 1
        print(
            f"{label:14}"
            + "".join(f"{row[key]:12.{digits}f}" for key in ("seconds", "cpu_seconds", "peak_mb", "grown_mb"))
        )
    print(
        f"largest difference of the estimates: {difference:.1e} (peak of the estimates {peer.abs().max().item():.2f})"
    )


if __name__ == "__main__":
    main()
